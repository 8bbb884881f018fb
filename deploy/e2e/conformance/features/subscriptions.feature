Feature: Subscriptions
  An application asks for events of a device to be sent to its sink.

  Background:
    Given the device is registered

  Scenario: A subscription
    When the device subscribes with
      | config.subscriptionExpireTime | "{in 2h}" |
      | config.subscriptionMaxEvents  | 50        |
      | config.initialEvent           | true      |
    Then the answer is 201
    And the answer has
      | id                                 | a UUID                |
      | protocol                           | HTTP                  |
      | sink                               | {sink}                |
      | types.#                            | 1                     |
      | types.0                            | {type session-status} |
      | config.subscriptionDetail.deviceId | {deviceId}            |
      | config.subscriptionExpireTime      | in 2h                 |
      | config.subscriptionMaxEvents       | 50                    |
      | config.initialEvent                | true                  |
      | startsAt                           | now                   |
      | expiresAt                          | in 2h                 |
      | status                             | ACTIVE                |
      | sinkCredential                     | absent                |
    When the device sends GET {subscriptions}/{subscriptionId}
    Then the answer is 200
    And the answer has
      | id                            | {subscriptionId}      |
      | types.0                       | {type session-status} |
      | config.subscriptionMaxEvents  | 50                    |
      | config.subscriptionExpireTime | in 2h                 |
      | startsAt                      | now                   |
      | expiresAt                     | in 2h                 |
      | status                        | ACTIVE                |

  Scenario: A subscription without wishes
    When the device subscribes
    Then the answer is 201
    And the answer has
      | config.subscriptionExpireTime | absent |
      | config.subscriptionMaxEvents  | absent |
      | config.initialEvent           | absent |
      | expiresAt                     | in 24h |

  Scenario: A wished end that is too far ahead is cut to the maximum
    When the device subscribes with
      | config.subscriptionExpireTime | "{in 10000h}" |
    Then the answer is 201
    And the answer has
      | expiresAt | in 720h |

  @r31 @main
  Scenario Outline: Several types of event in one subscription
    When the device subscribes to <types> with
      | config.initialEvent | false |
    Then the answer is 201
    And the answer has
      | types.# | <number> |

    Examples:
      | types                                               | number |
      | registration-ends                                   | 1      |
      | session-invitation and session-status               | 2      |
      | session-invitation, session-status and registration-ends | 3 |

  @r22
  Scenario Outline: r2.2 takes one type of event at a time
    When the device subscribes to <types> with
      | config.initialEvent | false |
    Then the answer is <answer>

    Examples:
      | types                                 | answer               |
      | session-invitation                    | 201                  |
      | session-status                        | 201                  |
      | registration-ends                     | 201                  |
      | session-invitation and session-status | 400 INVALID_ARGUMENT |

  Scenario: The token of a sink is never shown
    When the device subscribes with
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"of-the-sink","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"} |
    Then the answer is 201
    And the answer does not hold "of-the-sink"
    And the answer has
      | sinkCredential | absent |
    When the device sends GET {subscriptions}/{subscriptionId}
    Then the answer is 200
    And the answer does not hold "of-the-sink"
    When the device sends GET {subscriptions}
    Then the answer is 200
    And the answer does not hold "of-the-sink"

  Scenario Outline: A subscription that lacks what it needs, or has what it must not
    When the device subscribes with
      | <property> | <value> |
    Then the answer is <answer>

    Examples: in general
      | property                           | value                           | answer               |
      | protocol                           | removed                         | 400 INVALID_ARGUMENT |
      | protocol                           | "MQTT3"                         | 400 INVALID_PROTOCOL |
      | protocol                           | "http"                          | 400 INVALID_PROTOCOL |
      | protocol                           | 1                               | 400 INVALID_ARGUMENT |
      | sink                               | removed                         | 400 INVALID_ARGUMENT |
      | sink                               | null                            | 400 INVALID_ARGUMENT |
      | types                              | removed                         | 400 INVALID_ARGUMENT |
      | types                              | []                              | 400 INVALID_ARGUMENT |
      | types                              | "{type session-status}"         | 400 INVALID_ARGUMENT |
      | types                              | ["session-status"]              | 400 INVALID_ARGUMENT |
      | types                              | ["{type subscription-ended}"]   | 400 INVALID_ARGUMENT |
      | types                              | ["{type subscription-started}"] | 400 INVALID_ARGUMENT |
      | types                              | [7]                             | 400 INVALID_ARGUMENT |
      | config                             | removed                         | 400 INVALID_ARGUMENT |
      | config                             | "now"                           | 400 INVALID_ARGUMENT |
      | config.subscriptionDetail          | removed                         | 400 INVALID_ARGUMENT |
      | config.subscriptionDetail          | {}                              | 400 INVALID_ARGUMENT |
      | config.subscriptionDetail.deviceId | "telephone"                     | 400 INVALID_ARGUMENT |
      | config.subscriptionDetail.deviceId | 7                               | 400 INVALID_ARGUMENT |
      | config.subscriptionExpireTime      | "2099-01-01T00:00:00"           | 400 INVALID_ARGUMENT |
      | config.subscriptionExpireTime      | "tomorrow"                      | 400 INVALID_ARGUMENT |
      | config.subscriptionExpireTime      | "{1h ago}"                      | 400 OUT_OF_RANGE     |
      | config.subscriptionExpireTime      | "{in 200ms}"                    | 400 OUT_OF_RANGE     |
      | config.subscriptionMaxEvents       | 0                               | 400 INVALID_ARGUMENT |
      | config.subscriptionMaxEvents       | -1                              | 400 INVALID_ARGUMENT |
      | config.subscriptionMaxEvents       | 1.5                             | 400 INVALID_ARGUMENT |
      | config.subscriptionMaxEvents       | "5"                             | 400 INVALID_ARGUMENT |
      | config.initialEvent                | "yes"                           | 400 INVALID_ARGUMENT |

    @r31 @main
    Examples: keyed by device
      | property                           | value                                                                                                | answer               |
      | config.subscriptionDetail.deviceId | removed                                                                                              | 400 INVALID_ARGUMENT |
      | config.subscriptionMaxEvents       | 1000001                                                                                              | 400 INVALID_ARGUMENT |
      | types                              | ["{type session-status}","{type session-invitation}","{type registration-ends}","{type session-status}"] | 400 INVALID_ARGUMENT |

    @r31
    Examples: closed
      | property                           | value   | answer               |
      | colour                             | "green" | 400 INVALID_ARGUMENT |
      | config.colour                      | "green" | 400 INVALID_ARGUMENT |
      | config.subscriptionDetail.colour   | "green" | 400 INVALID_ARGUMENT |
      | sinkCredential.colour              | "green" | 400 INVALID_ARGUMENT |
      | protocolSettings                   | {"a":1} | 400 INVALID_ARGUMENT |

    @r31
    Examples: what older applications send
      | property                                 | value    | answer |
      | config.subscriptionDetail.registrationId | "{uuid}" | 201    |
      | config.subscriptionDetail.mediaSessionId | "{uuid}" | 201    |
      | config.subscriptionDetail.sessionId      | "{uuid}" | 201    |

    @r22 @main
    Examples: open
      | property                           | value   | answer |
      | colour                             | "green" | 201    |
      | config.colour                      | "green" | 201    |
      | config.subscriptionDetail.colour   | "green" | 201    |

    @r22
    Examples: keyed by registration
      | property                                 | value    | answer                    |
      | config.subscriptionDetail.registrationId | removed  | 400 INVALID_ARGUMENT      |
      | config.subscriptionDetail.registrationId | "{uuid}" | 403 SUBSCRIPTION_MISMATCH |
      | config.subscriptionDetail.registrationId | "none"   | 403 SUBSCRIPTION_MISMATCH |
      | config.subscriptionDetail.deviceId       | "{uuid}" | 400 INVALID_ARGUMENT      |
      | config.subscriptionDetail.deviceId       | removed  | 201                       |
      | config.subscriptionDetail.sessionId      | "{uuid}" | 403 SUBSCRIPTION_MISMATCH |
      | config.subscriptionDetail.mediaSessionId | "{uuid}" | 403 SUBSCRIPTION_MISMATCH |

  @r22
  Scenario: A registration of somebody else
    Given the stranger is registered
    When the device subscribes with
      | config.subscriptionDetail.registrationId | "{the stranger's registrationId}" |
      | config.subscriptionDetail.deviceId       | removed                           |
    Then the answer is 403 SUBSCRIPTION_MISMATCH

  Scenario Outline: A type of another generation
    When the device subscribes with
      | types | <types> |
    Then the answer is 400 INVALID_ARGUMENT

    @r31
    Examples:
      | types                                                                                    |
      | ["org.camaraproject.webrtc-events.v0.session-status"]                                    |
      | ["{type session-status}","org.camaraproject.webrtc-events.v0.session-invitation"]        |

    @r22 @main
    Examples:
      | types                                                                                    |
      | ["org.camaraproject.webrtc-events-subscriptions.v0.session-status"]                      |
      | ["{type session-status}","org.camaraproject.webrtc-events-subscriptions.v0.session-invitation"] |

  Scenario Outline: A sink that may not be used
    When the device subscribes with
      | sink | "<sink>" |
    Then the answer is 400 INVALID_SINK

    Examples:
      | sink                               |
      |                                    |
      | sink                               |
      | http://app.example.com/            |
      | HTTP://app.example.com/            |
      | ftp://app.example.com/             |
      | https://                           |
      | https:///events                    |
      | https://app example.com/           |
      | https://user:secret@app.example.com/ |
      | https://app.example.com/#part      |
      | https://app.example.com:0/         |
      | https://app.example.com:99999/     |
      | https://app.example.com/{text 1024} |
      | https://127.0.0.2/                 |
      | https://[::1]/                     |
      | https://10.0.0.1/                  |
      | https://172.16.0.1/                |
      | https://192.168.0.1/               |
      | https://169.254.169.254/latest     |
      | https://100.64.0.1/                |
      | https://0.0.0.0/                   |
      | https://[fe80::1]/                 |
      | https://[fd00::1]/                 |
      | https://[::ffff:10.0.0.1]/         |
      | https://224.0.0.1/                 |

  Scenario Outline: A credential that may not be used
    When the device subscribes with
      | sinkCredential | <credential> |
    Then the answer is <answer>

    Examples:
      | credential                                                                                                                     | answer                 |
      | {}                                                                                                                             | 400 INVALID_ARGUMENT   |
      | "token"                                                                                                                        | 400 INVALID_ARGUMENT   |
      | {"credentialType":"PLAIN","identifier":"a","secret":"b"}                                                                       | 400 INVALID_CREDENTIAL |
      | {"credentialType":"REFRESHTOKEN","accessToken":"a","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"}               | 400 INVALID_CREDENTIAL |
      | {"credentialType":"PRIVATE_KEY_JWT"}                                                                                           | 400 INVALID_CREDENTIAL |
      | {"credentialType":"ACCESSTOKEN","accessToken":"a","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"mac"}                   | 400 INVALID_TOKEN      |
      | {"credentialType":"ACCESSTOKEN","accessToken":"a","accessTokenExpiresUtc":"{1h ago}","accessTokenType":"bearer"}               | 400 INVALID_CREDENTIAL |
      | {"credentialType":"ACCESSTOKEN","accessToken":"a","accessTokenExpiresUtc":"2099-01-01T00:00:00","accessTokenType":"bearer"}    | 400 INVALID_ARGUMENT   |
      | {"credentialType":"ACCESSTOKEN","accessToken":"a","accessTokenType":"bearer"}                                                  | 400 INVALID_ARGUMENT   |
      | {"credentialType":"ACCESSTOKEN","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"}                                  | 400 INVALID_ARGUMENT   |
      | {"credentialType":"ACCESSTOKEN","accessToken":"a","accessTokenExpiresUtc":"{in 1h}"}                                           | 400 INVALID_ARGUMENT   |
      | {"credentialType":"ACCESSTOKEN","accessToken":"","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"}                 | 400 INVALID_ARGUMENT   |
      | {"credentialType":"ACCESSTOKEN","accessToken":"a\\r\\nX: y","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"}      | 400 INVALID_ARGUMENT   |

  @r31 @main
  Scenario: A token of a sink has a greatest length
    When the device subscribes with
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"{text 8193}","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"} |
    Then the answer is 400 INVALID_ARGUMENT

  @r22
  Scenario: r2.2 takes another spelling of the token's end
    When the device subscribes with
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"a","accessTokenExpireUtc":"{in 1h}","accessTokenType":"bearer"} |
    Then the answer is 201

  Scenario: The same subscription twice
    When the device subscribes
    Then the answer is 201
    And the answer's "id" is kept as "first"
    When the device subscribes
    Then the answer is 201
    And the answer has
      | id | a UUID |
    When the device sends GET {subscriptions}
    Then the answer is 200
    And the answer has
      | # | 2 |
    When the device sends DELETE {subscriptions}/{first}
    And the device sends GET {subscriptions}
    Then the answer has
      | #    | 1                |
      | 0.id | {subscriptionId} |

  Scenario: Too many subscriptions
    Given the device has 6 subscriptions
    When the device subscribes
    Then the answer is 429 QUOTA_EXCEEDED
    When the device ends its subscription
    And the device subscribes
    Then the answer is 201

  Scenario: The list is the caller's own
    Given the device is subscribed to session-status
    When the stranger sends GET {subscriptions}
    Then the answer is 200
    And the answer has
      | # | 0 |
    When the other application sends GET {subscriptions}
    Then the answer is 200
    And the answer has
      | # | 0 |

  Scenario Outline: A subscription that is not the caller's does not exist
    Given the device is subscribed to session-status
    When <who> sends <method> {subscriptions}/<id>
    Then the answer is 404 NOT_FOUND

    Examples:
      | who                   | method | id                            |
      | the device            | GET    | {uuid}                        |
      | the device            | GET    | anything                      |
      | the stranger          | GET    | {the device's subscriptionId} |
      | the other application | GET    | {the device's subscriptionId} |
      | the device            | DELETE | {uuid}                        |
      | the stranger          | DELETE | {the device's subscriptionId} |
      | the other application | DELETE | {the device's subscriptionId} |

  Scenario: A subscription is given up
    Given the device is subscribed to session-status
    When the device sends DELETE {subscriptions}/{subscriptionId}
    Then the answer is 204
    When the device sends GET {subscriptions}/{subscriptionId}
    Then the answer is 404 NOT_FOUND
    When the device sends DELETE {subscriptions}/{subscriptionId}
    Then the answer is 404 NOT_FOUND

  @r31 @main
  Scenario: A subscription gets another end
    Given the device is subscribed to session-status
    When the device changes its subscription with
      | config.subscriptionExpireTime | "{in 3h}" |
    Then the answer is 200
    And the answer has
      | id                            | {subscriptionId}      |
      | expiresAt                     | in 3h                 |
      | config.subscriptionExpireTime | in 3h                 |
      | types.0                       | {type session-status} |
      | sinkCredential                | absent                |

  @r31 @main
  Scenario: A subscription gets another token for its sink
    Given the device is subscribed to session-status with
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"old","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"} |
    When the device changes its subscription with
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"new","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"} |
    Then the answer is 200
    When the device is in a call
    And the device hangs up
    Then the device has been told "Connected", "Terminated"
    And the deliveries to the device have the header Authorization "Bearer new"

  @r31 @main
  Scenario Outline: A change that cannot be made
    Given the device is subscribed to session-status
    When the device changes its subscription with
      | <property> | <value> |
    Then the answer is <answer>

    Examples:
      | property                      | value                                                                                                            | answer                 |
      | sink                          | "{sink}"                                                                                                         | 400 INVALID_ARGUMENT   |
      | protocol                      | "HTTP"                                                                                                           | 400 INVALID_ARGUMENT   |
      | types                         | ["{type session-status}"]                                                                                        | 400 INVALID_ARGUMENT   |
      | colour                        | "green"                                                                                                          | 400 INVALID_ARGUMENT   |
      | config                        | "now"                                                                                                            | 400 INVALID_ARGUMENT   |
      | config.subscriptionMaxEvents  | 5                                                                                                                | 400 INVALID_ARGUMENT   |
      | config.subscriptionDetail     | {"deviceId":"{deviceId}"}                                                                                        | 400 INVALID_ARGUMENT   |
      | config.subscriptionExpireTime | "{1h ago}"                                                                                                       | 400 OUT_OF_RANGE       |
      | config.subscriptionExpireTime | "2099-01-01T00:00:00"                                                                                            | 400 INVALID_ARGUMENT   |
      | sinkCredential                | {"credentialType":"PLAIN","identifier":"a","secret":"b"}                                                         | 400 INVALID_CREDENTIAL |
      | sinkCredential                | {"credentialType":"ACCESSTOKEN","accessToken":"a","accessTokenExpiresUtc":"{1h ago}","accessTokenType":"bearer"} | 400 INVALID_CREDENTIAL |
      | sinkCredential                | {"credentialType":"ACCESSTOKEN","accessToken":"a","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"mac"}     | 400 INVALID_TOKEN      |

  @r31 @main
  Scenario: A change that changes nothing
    Given the device is subscribed to session-status
    When the device sends PUT {subscriptions}/{subscriptionId} with
      """
      {}
      """
    Then the answer is 400 INVALID_ARGUMENT
    When the device sends PUT {subscriptions}/{subscriptionId}
    Then the answer is 400 INVALID_ARGUMENT

  @r31 @main
  Scenario Outline: A subscription that is not the caller's cannot be changed
    Given the device is subscribed to session-status
    When <who> sends PUT {subscriptions}/<id> with
      """
      {"config": {"subscriptionExpireTime": "{in 3h}"}}
      """
    Then the answer is 404 NOT_FOUND

    Examples:
      | who                   | id                            |
      | the device            | {uuid}                        |
      | the stranger          | {the device's subscriptionId} |
      | the other application | {the device's subscriptionId} |

  @r22
  Scenario: r2.2 cannot change a subscription
    Given the device is subscribed to session-status
    When the device sends PUT {subscriptions}/{subscriptionId} with
      """
      {"config": {"subscriptionExpireTime": "{in 3h}"}}
      """
    Then the answer is 405 METHOD_NOT_ALLOWED

  @r22
  Scenario: In r2.2 a sink may get header fields of its own
    Given the device is subscribed to session-status with
      | protocolSettings | {"method":"POST","headers":{"X-Tenant":"blue","Host":"evil.example","Content-Type":"text/plain","x-correlator":"fixed","Connection":"close"}} |
    And the answer does not hold "blue"
    When the device is in a call
    And the device hangs up
    Then the device has been told "Connected", "Terminated"
    And the deliveries to the device have the header X-Tenant "blue"

  @r22
  Scenario Outline: Header fields that cannot be sent
    When the device subscribes with
      | protocolSettings | <settings> |
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | settings                                   |
      | {"method":"PUT"}                           |
      | {"headers":{"X-A":"1\\r\\nX-B: 2"}}        |
      | {"headers":{"X A":"1"}}                    |
      | {"headers":{"X-A\\r\\nX-B":"1"}}           |
      | {"headers":{"X-A":1}}                      |
      | {"headers":["X-A"]}                        |

  @r31 @main
  Scenario: An application's own token sees the device of its own registration
    Given the server application is registered
    When the server application subscribes
    Then the answer is 201
    When the server application sends GET {subscriptions}
    Then the answer is 200

  Scenario Outline: The scope of each type is needed
    Given the token of the device lacks the scope {scope}:{type <type>}:create
    When the device subscribes to <type> with
      | config.initialEvent | false |
    Then the answer is 403 PERMISSION_DENIED

    Examples:
      | type               |
      | session-status     |
      | session-invitation |
      | registration-ends  |

  @r31 @main
  Scenario: One scope of two is not enough
    Given the token of the device lacks the scope {scope}:{type session-status}:create
    When the device subscribes to session-status and session-invitation with
      | config.initialEvent | false |
    Then the answer is 403 PERMISSION_DENIED
    When the device subscribes to session-invitation with
      | config.initialEvent | false |
    Then the answer is 201

  @r31
  Scenario: A subscription may come before the registration
    Given the second device is subscribed to session-status
    And the second device is registered
    When the second device is in a call
    And the second device hangs up
    Then the second device has been told "Connected", "Terminated"
