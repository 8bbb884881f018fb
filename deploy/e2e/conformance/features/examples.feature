Feature: The messages of published call flows
  Examples of call flows that are in circulation have paths, dates and ids that
  cannot be right. With ids that exist and dates to come they are accepted, on
  the paths that they use.

  @r22
  Scenario Outline: Subscribing to invitations and to states, as the examples do
    Given the device is registered
    When the device sends POST /webrtc-events-suscription/v0.2/subscriptions with
      """
      {
        "protocol": "HTTP",
        "sink": "{sink}",
        "types": ["{type <type>}"],
        "config": {
          "subscriptionDetail": {"deviceId": "{deviceId}"},
          "subscriptionExpireTime": "{in 24h}",
          "subscriptionMaxEvents": 50,
          "initialEvent": false
        }
      }
      """
    Then the answer is 201
    And the answer has
      | id                                       | a UUID        |
      | protocol                                 | HTTP          |
      | types.0                                  | {type <type>} |
      | config.subscriptionDetail.deviceId       | {deviceId}    |
      | config.subscriptionDetail.registrationId | absent        |
      | config.subscriptionMaxEvents             | 50            |
      | config.initialEvent                      | false         |
      | config.subscriptionExpireTime            | in 24h        |
      | startsAt                                 | now           |
      | expiresAt                                | in 24h        |
      | status                                   | ACTIVE        |

    Examples:
      | type               |
      | session-invitation |
      | session-status     |

  @r31 @main
  Scenario Outline: The same on the newer versions of the path
    When the device sends POST /webrtc-events-suscription/<version>/subscriptions with
      """
      {
        "protocol": "HTTP",
        "sink": "{sink}",
        "types": ["{type <type>}"],
        "config": {
          "subscriptionDetail": {"deviceId": "{deviceId}"},
          "subscriptionExpireTime": "{in 24h}",
          "subscriptionMaxEvents": 50,
          "initialEvent": false
        }
      }
      """
    Then the answer is 201
    And the answer has
      | id                           | a UUID        |
      | protocol                     | HTTP          |
      | types.0                      | {type <type>} |
      | config.subscriptionMaxEvents | 50            |
      | status                       | ACTIVE        |

    Examples:
      | version | type               |
      | v0.3    | session-invitation |
      | v0.3rc1 | session-invitation |
      | vwip    | session-invitation |
      | v0.3    | session-status     |
      | vwip    | session-status     |

  @r31 @main
  Scenario Outline: Both in one
    When the device sends POST /webrtc-events-suscription/<version>/subscriptions with
      """
      {
        "protocol": "HTTP",
        "sink": "{sink}",
        "types": ["{type session-invitation}", "{type session-status}"],
        "config": {
          "subscriptionDetail": {"deviceId": "{deviceId}"},
          "subscriptionExpireTime": "{in 24h}",
          "subscriptionMaxEvents": 50,
          "initialEvent": false
        }
      }
      """
    Then the answer is 201
    And the answer has
      | types.# | 2 |

    Examples:
      | version |
      | v0.3    |
      | v0.3rc1 |
      | vwip    |

  @r22
  Scenario: Both in one is too much for r2.2
    Given the device is registered
    When the device sends POST /webrtc-events-suscription/v0.2/subscriptions with
      """
      {
        "protocol": "HTTP",
        "sink": "{sink}",
        "types": ["{type session-invitation}", "{type session-status}"],
        "config": {"subscriptionDetail": {"deviceId": "{deviceId}"}}
      }
      """
    Then the answer is 400 INVALID_ARGUMENT

  Scenario: A date of the past is refused
    Given the device is registered
    When the device sends POST /webrtc-events-suscription/v0.3/subscriptions with
      """
      {
        "protocol": "HTTP",
        "sink": "{sink}",
        "types": ["org.camaraproject.webrtc-events-subscriptions.v0.session-invitation"],
        "config": {
          "subscriptionDetail": {"deviceId": "{deviceId}"},
          "subscriptionExpireTime": "2023-01-17T13:18:23.682Z",
          "subscriptionMaxEvents": 50,
          "initialEvent": false
        }
      }
      """
    Then the answer is 400 OUT_OF_RANGE

  @r31 @main
  Scenario: Subscriptions of one path with different types have different ids
    When the device sends POST /webrtc-events-suscription/v0.3/subscriptions with
      """
      {"protocol": "HTTP", "sink": "{sink}", "types": ["{type session-invitation}"], "config": {"subscriptionDetail": {"deviceId": "{deviceId}"}}}
      """
    Then the answer is 201
    And the answer's "id" is kept as "one"
    When the device sends POST /webrtc-events-suscription/v0.3/subscriptions with
      """
      {"protocol": "HTTP", "sink": "{sink}", "types": ["{type session-status}"], "config": {"subscriptionDetail": {"deviceId": "{deviceId}"}}}
      """
    Then the answer is 201
    And the answer's "id" is kept as "two"
    When the device sends GET /webrtc-events-suscription/v0.3/subscriptions
    Then the answer is 200
    And the answer has
      | # | 2 |
    When the device sends GET /webrtc-events-suscription/v0.3/subscriptions/{one}
    Then the answer is 200
    When the device sends DELETE /webrtc-events-suscription/v0.3/subscriptions/{one}
    Then the answer is 204
    When the device sends GET /webrtc-events-suscription/v0.3/subscriptions/{two}
    Then the answer is 200

  @r22
  Scenario: Registering on the path of subscriptions, as the example does
    When the device sends POST /webrtc-registration/v0.3/subscriptions with
      """
      {"deviceId": "uuid", "registrationExpireTime": "2023-01-17T13:18:23.682Z"}
      """
    Then the answer is 200
    And the answer has
      | registrationId      | a UUID     |
      | regInfo.phoneNumber | {number}   |
      | regInfo.regStatus   | Registered |
      | expiresAt           | in 1h      |

  @r31 @main
  Scenario Outline: The newer versions want a device id that is one, and an end to come
    When the device sends POST /webrtc-registration/<version>/subscriptions with
      """
      {"deviceId": "uuid", "registrationExpireTime": "2023-01-17T13:18:23.682Z"}
      """
    Then the answer is 400 INVALID_ARGUMENT
    When the device sends POST /webrtc-registration/<version>/subscriptions with
      """
      {"deviceId": "{deviceId}", "registrationExpireTime": "{in 2h}"}
      """
    Then the answer is 201
    And the answer has
      | registrationId      | a UUID     |
      | regInfo.phoneNumber | {number}   |
      | regInfo.regStatus   | Registered |
      | expiresAt           | in 2h      |

    Examples:
      | version |
      | v0.4    |
      | v0.4rc1 |
      | vwip    |

  Scenario Outline: Subscribing to the end of a registration, with what belongs into config beside it
    Given the device is registered
    When the device sends POST /webrtc-events-suscription/<version>/subscriptions with
      """
      {
        "protocol": "HTTP",
        "sink": "{sink}",
        "types": ["{type registration-ends}"],
        "config": {"subscriptionDetail": {"registrationId": "{registrationId}"}},
        "initialEvent": false,
        "subscriptionMaxEvents": 50,
        "subscriptionExpireTime": "{in 24h}"
      }
      """
    Then the answer is 201
    And the answer has
      | id                                       | a UUID                   |
      | protocol                                 | HTTP                     |
      | types.0                                  | {type registration-ends} |
      | config.subscriptionDetail.registrationId | {registrationId}         |
      | config.subscriptionMaxEvents             | 50                       |
      | config.subscriptionExpireTime            | in 24h                   |
      | config.initialEvent                      | false                    |
      | initialEvent                             | absent                   |
      | expiresAt                                | in 24h                   |
      | status                                   | ACTIVE                   |

    @r22
    Examples:
      | version |
      | v0.2    |

    @r31 @main
    Examples:
      | version |
      | v0.3    |
      | v0.3rc1 |
      | vwip    |

  Scenario Outline: A registration that was never made
    When the device sends POST /webrtc-events-suscription/<version>/subscriptions with
      """
      {
        "protocol": "HTTP",
        "sink": "{sink}",
        "types": ["{type registration-ends}"],
        "config": {"subscriptionDetail": {"registrationId": "{uuid}"}}
      }
      """
    Then the answer is 403 SUBSCRIPTION_MISMATCH

    @r22
    Examples:
      | version |
      | v0.2    |

    @r31 @main
    Examples:
      | version |
      | v0.3    |
      | vwip    |

  @r31 @main
  Scenario: Events of a subscription that was made on the examples' path
    Given the device is registered with
      | registrationExpireTime | "{in 4s}" |
    When the device sends POST /webrtc-events-suscription/v0.3/subscriptions with
      """
      {
        "protocol": "HTTP",
        "sink": "{sink}",
        "types": ["{type registration-ends}"],
        "config": {"subscriptionDetail": {"registrationId": "{registrationId}"}}
      }
      """
    Then the answer is 201
    And the device gets a registration-ends event with
      | data.registrationId    | {registrationId}     |
      | data.terminationReason | REGISTRATION_EXPIRED |

  Scenario: Versions that the examples do not have
    When the device sends GET /webrtc-events-suscription/v0.4/subscriptions
    Then the answer is 404 NOT_FOUND

  @r31
  Scenario: An example that is sent as it stands is refused in a form that helps
    When the device sends POST /webrtc-events-suscription/v0.3/subscriptions with
      """
      {
        "protocol": "HTTP",
        "sink": "https://127.0.0.1/",
        "types": ["{type registration-ends}"],
        "config": {"subscriptionDetail": {"registrationId": "{uuid}"}}
        "initialEvent": false
      }
      """
    Then the answer is 400 INVALID_ARGUMENT
