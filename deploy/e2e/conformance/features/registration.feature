Feature: Registrations
  A device registers for the number of its subscriber, so that it can make calls
  and be called.

  Scenario: A device registers
    When the device registers
    Then the answer is 201 (200 in r2.2)
    And the answer has
      | registrationId      | a UUID     |
      | regInfo.phoneNumber | {number}   |
      | regInfo.regStatus   | Registered |
      | expiresAt           | in 1h      |

  Scenario Outline: A wished end within the bounds is kept
    When the device registers with
      | registrationExpireTime | "<wished>" |
    Then the answer is 201 (200 in r2.2)
    And the answer has
      | expiresAt | <end> |

    Examples:
      | wished                        | end                      |
      | {in 30m}                      | in 30m                   |
      | {in 23h}                      | in 23h                   |
      | {in 5s}                       | in 5s                    |

  Scenario: Ends may come in any time zone and leave in UTC
    When the device registers with
      | registrationExpireTime | "{the next noon in India}" |
    Then the answer is 201 (200 in r2.2)
    And the answer has
      | expiresAt | {the next noon in India, in UTC} |

  @r31 @main
  Scenario: A wished end that is too far ahead is cut to the maximum
    When the device registers with
      | registrationExpireTime | "{in 100h}" |
    Then the answer is 201
    And the answer has
      | expiresAt | in 24h |

  Scenario Outline: A wished end that is too near or past
    When the device registers with
      | registrationExpireTime | "<wished>" |
    Then the answer is <answer>

    @r31 @main
    Examples: is refused
      | wished      | answer           |
      | {1s ago}    | 400 OUT_OF_RANGE |
      | {100h ago}  | 400 OUT_OF_RANGE |
      | {in 500ms}  | 400 OUT_OF_RANGE |

  @r22
  Scenario Outline: In r2.2 the usual end takes the place of one outside the bounds
    When the device registers with
      | registrationExpireTime | "<wished>" |
    Then the answer is 200
    And the answer has
      | expiresAt | in 1h |

    Examples:
      | wished     |
      | {in 100h}  |
      | {100h ago} |
      | {in 500ms} |

  Scenario Outline: A date that is none
    When the device registers with
      | registrationExpireTime | <value> |
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | value                         |
      | "2099-01-01T00:00:00"         |
      | "2099-01-01"                  |
      | "2099-13-01T00:00:00Z"        |
      | "2099-02-30T00:00:00Z"        |
      | "tomorrow"                    |
      | ""                            |
      | 4070908800                    |
      | null                          |
      | {"at":"2099-01-01T00:00:00Z"} |

  Scenario Outline: A device id that is none
    When the device registers with
      | deviceId | <value> |
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | value                                         |
      | removed                                       |
      | ""                                            |
      | "telephone"                                   |
      | "3fa85f64-5717-4562-b3fc-2c963f66afa6a"       |
      | "3fa85f64-5717-4562-b3fc-2c963f66afa6\\r\\nX:y" |
      | 7                                             |
      | null                                          |
      | ["3fa85f64-5717-4562-b3fc-2c963f66afa6"]      |

  @r22
  Scenario: r2.2 takes device ids of its published pattern
    When the device registers with
      | deviceId | "my uuid {number}" |
    Then the answer is 200

  @r22
  Scenario: r2.2 ignores properties that it does not know
    When the device registers with
      | phoneNumber | "{number}" |
      | colour      | "green"    |
    Then the answer is 200

  @r31 @main
  Scenario: A device that is registered cannot register again
    Given the device is registered
    When the device registers with
      | registrationExpireTime | "{in 10m}" |
    Then the answer is 409 ALREADY_EXISTS
    When the device sends GET {registrations}/{registrationId}
    Then the answer is 200
    And the answer has
      | expiresAt | in 1h |

  @r31 @main
  Scenario: Device ids compare without regard to case
    Given the device is registered
    When the device registers with
      | deviceId | "{DEVICEID}" |
    Then the answer is 409 ALREADY_EXISTS
    When the device sends GET {registrations}?deviceId={DEVICEID}
    Then the answer is 200
    And the answer has
      | #                | 1                |
      | 0.registrationId | {registrationId} |

  @r22
  Scenario: In r2.2 a device that registers again replaces its registration
    Given the device is registered
    And the answer's "registrationId" is kept as "first"
    And the device is subscribed to session-status
    And the answer's "id" is kept as "subscription"
    And the device is in a call
    When the device registers
    Then the answer is 200
    And the far end hears the hang-up
    And the device gets a subscription-ended event with
      | data.subscriptionId    | {subscription}     |
      | data.terminationReason | NETWORK_TERMINATED |
    When the device sends PUT {registrations}/{first} with
      """
      {}
      """
    Then the answer is 404 NOT_FOUND
    When the device sends PUT {registrations}/{registrationId} with
      """
      {}
      """
    Then the answer is 200

  Scenario: One device may register for several numbers
    Given the device is registered
    When the stranger registers with
      | deviceId | "{the device's deviceId}" |
    Then the answer is 201 (200 in r2.2)

  @r31 @main
  Scenario: The registrations of a device are those of the token's number
    Given the device is registered
    And the stranger is registered with
      | deviceId | "{the device's deviceId}" |
    When the device sends GET {registrations}?deviceId={deviceId}
    Then the answer is 200
    And the answer has
      | #                     | 1                |
      | 0.registrationId      | {registrationId} |
      | 0.regInfo.phoneNumber | {number}         |
      | 0.regInfo.regStatus   | Registered       |
      | 0.expiresAt           | in 1h            |

  @r31 @main
  Scenario: A device without registrations
    When the device sends GET {registrations}?deviceId={deviceId}
    Then the answer is 200
    And the answer has
      | # | 0 |

  @r31 @main
  Scenario Outline: A list needs one device id
    When the device sends GET {registrations}<query>
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | query                                       |
      |                                             |
      | ?deviceId=                                  |
      | ?deviceId=telephone                         |
      | ?deviceID={uuid}                            |
      | ?deviceId={uuid}&deviceId={uuid}            |
      | ?deviceId={uuid}0                           |
      | ?deviceId=%zz                               |

  @r31 @main
  Scenario: A registration can be read
    Given the device is registered
    When the device sends GET {registrations}/{registrationId}
    Then the answer is 200
    And the answer has
      | registrationId      | {registrationId} |
      | regInfo.phoneNumber | {number}         |
      | expiresAt           | in 1h            |

  Scenario Outline: A registration that is not the caller's does not exist
    Given the device is registered
    When <who> sends <method> {registrations}/<id>
    Then the answer is 404 NOT_FOUND

    @r31 @main
    Examples: for reading
      | who                   | method | id                            |
      | the device            | GET    | {uuid}                        |
      | the device            | GET    | anything                      |
      | the stranger          | GET    | {the device's registrationId} |
      | the other application | GET    | {the device's registrationId} |

    Examples: for writing
      | who                   | method | id                            |
      | the device            | PUT    | {uuid}                        |
      | the stranger          | PUT    | {the device's registrationId} |
      | the other application | PUT    | {the device's registrationId} |
      | the device            | DELETE | {uuid}                        |
      | the stranger          | DELETE | {the device's registrationId} |
      | the other application | DELETE | {the device's registrationId} |

  Scenario: A refresh without a body
    Given the device is registered with
      | registrationExpireTime | "{in 5m}" |
    When the device sends PUT {registrations}/{registrationId}
    Then the answer is 204

  @r31 @main
  Scenario: A refresh without a body counts from now
    Given the device is registered with
      | registrationExpireTime | "{in 5m}" |
    When the device sends PUT {registrations}/{registrationId}
    And the device sends GET {registrations}/{registrationId}
    Then the answer has
      | expiresAt | in 1h |

  Scenario: A refresh with an empty object
    Given the device is registered with
      | registrationExpireTime | "{in 5m}" |
    When the device sends PUT {registrations}/{registrationId} with
      """
      {}
      """
    Then the answer is 200
    And the answer has
      | registrationId | {registrationId} |
      | expiresAt      | in 1h            |

  Scenario: A refresh with an end
    Given the device is registered
    When the device refreshes with
      | registrationExpireTime | "{in 20m}" |
    Then the answer is 200
    And the answer has
      | expiresAt | in 20m |

  @r31 @main
  Scenario: A refresh is cut to the maximum
    Given the device is registered
    When the device refreshes with
      | registrationExpireTime | "{in 100h}" |
    Then the answer is 200
    And the answer has
      | expiresAt | in 24h |

  @r31 @main
  Scenario Outline: A refresh that is refused leaves the registration as it was
    Given the device is registered
    When the device refreshes with
      | <property> | <value> |
    Then the answer is 400 <code>
    When the device sends GET {registrations}/{registrationId}
    Then the answer has
      | expiresAt | in 1h |

    Examples:
      | property               | value                 | code             |
      | registrationExpireTime | "{1h ago}"            | OUT_OF_RANGE     |
      | registrationExpireTime | "{in 500ms}"          | OUT_OF_RANGE     |
      | registrationExpireTime | "2099-01-01T00:00:00" | INVALID_ARGUMENT |
      | registrationExpireTime | 1                     | INVALID_ARGUMENT |
      | deviceId               | "{uuid}"              | INVALID_ARGUMENT |
      | phoneNumber            | "{number}"            | INVALID_ARGUMENT |
      | regInfo                | {"a":1}               | INVALID_ARGUMENT |

  @r22
  Scenario Outline: In r2.2 a refresh outside the bounds brings the usual end
    Given the device is registered
    When the device refreshes with
      | registrationExpireTime | "<wished>" |
    Then the answer is 200
    And the answer has
      | expiresAt | in 1h |

    Examples:
      | wished     |
      | {1h ago}   |
      | {in 100h}  |
      | {in 500ms} |

  Scenario: A registration is given up
    Given the device is registered
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 204
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 404 NOT_FOUND
    When the device sends PUT {registrations}/{registrationId}
    Then the answer is 404 NOT_FOUND
    And the registration of the device is gone
    When the device registers
    Then the answer is 201 (200 in r2.2)

  Scenario: An id may be written in capitals
    Given the device is registered
    And the answer's "registrationId" in capitals is kept as "CAPITALS"
    When the device sends DELETE {registrations}/{CAPITALS}
    Then the answer is 204

  Scenario: Giving up a registration ends its calls, without an event about the registration
    Given the device is registered
    And the device is subscribed to everything
    And the device is in a call
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 204
    And the far end hears the hang-up
    And the device has been told "Connected", "Terminated"

  Scenario: Giving up a registration cancels a call that rings
    Given the device is registered
    And the device is subscribed to session-status
    And the device is calling
    And the far end sends 180
    And the device is told "Ringing"
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 204
    And the far end hears of the cancellation

  @r31 @main
  Scenario: Giving up a registration leaves no event but those of its calls
    Given the device is registered
    And the device is subscribed to everything
    When the device sends DELETE {registrations}/{registrationId}
    And the device ends its subscription
    Then the sink of the device has got exactly
      | subscription-ended | SUBSCRIPTION_DELETED |

  @r31 @main
  Scenario: A registration expires at its moment and its subscription goes on
    Given the device is subscribed to everything
    And the device is registered with
      | registrationExpireTime | "{in 3s}" |
    Then the device gets a registration-ends event with
      | data.registrationId    | {registrationId}     |
      | data.terminationReason | REGISTRATION_EXPIRED |
      | data.subscriptionId    | {subscriptionId}     |
    And the registration of the device is gone
    When the device sends PUT {registrations}/{registrationId}
    Then the answer is 404 NOT_FOUND
    When the device sends GET {subscriptions}/{subscriptionId}
    Then the answer is 200
    And the answer has
      | status | ACTIVE |

  @r22
  Scenario: In r2.2 a subscription ends with its registration
    Given the device is registered with
      | registrationExpireTime | "{in 3s}" |
    And the device is subscribed to registration-ends
    Then the device gets a registration-ends event with
      | data.registrationId    | {registrationId}     |
      | data.terminationReason | REGISTRATION_EXPIRED |
    And the device gets a subscription-ended event with
      | data.subscriptionId    | {subscriptionId}   |
      | data.terminationReason | NETWORK_TERMINATED |
    And the subscription of the device is gone
    When the device sends PUT {registrations}/{registrationId}
    Then the answer is 404 NOT_FOUND

  Scenario: A call outlives its registration
    Given the device is registered with
      | registrationExpireTime | "{in 4s}" |
    And the device is in a call
    Then the registration of the device is gone
    And the session of the device is "Connected"
    When the device hangs up
    Then the far end hears the hang-up

  @on-hasty
  Scenario: A gateway may end the calls of a registration that expires
    Given the device is registered with
      | registrationExpireTime | "{in 4s}" |
    And the device is in a call
    Then the far end hears the hang-up
    And the session of the device is "Terminated"

  Scenario: A refreshed registration does not expire at its old end
    Given the device is registered with
      | registrationExpireTime | "{in 3s}" |
    And the stranger is registered with
      | registrationExpireTime | "{in 4s}" |
    When the device sends PUT {registrations}/{registrationId}
    Then the answer is 204
    And the registration of the stranger is gone
    When the device sends PUT {registrations}/{registrationId}
    Then the answer is 204

  Scenario: Too many registrations of one user
    Given the device is registered
    And the second device is registered
    And the third device is registered
    When the third device registers with
      | deviceId | "{uuid}" |
    Then the answer is 403 MAX_REGISTRATION_PER_USER

  Scenario: Too many registrations of one number
    Given the device is registered
    And the second device is registered
    And the third device is registered
    And the other application is registered
    When the other application registers with
      | deviceId | "{uuid}" |
    Then the answer is 403 MAX_REGISTRATION_PER_MSISDN

  @on-hasty
  Scenario: Too many devices of one user
    Given the device is registered
    And the second device is registered
    When the third device registers
    Then the answer is 403 MAX_DEVICES_PER_USER

  Scenario: A limit counts what lives
    Given the device is registered
    And the second device is registered
    And the third device is registered
    When the second device sends DELETE {registrations}/{registrationId}
    And the second device registers
    Then the answer is 201 (200 in r2.2)

  @r31 @main
  Scenario: The token of a subscriber names the number, so the request must not
    When the device registers with
      | phoneNumber | "{number}" |
    Then the answer is 422 UNNECESSARY_IDENTIFIER

  @r31 @main
  Scenario: An application's own token needs the number in the request
    When the server application registers with
      | phoneNumber | removed |
    Then the answer is 422 MISSING_IDENTIFIER
    When the server application registers
    Then the answer is 201
    And the answer has
      | regInfo.phoneNumber | {the server application's number} |
    When the server application sends GET {registrations}/{registrationId}
    Then the answer is 200
    When the server application sends GET {registrations}?deviceId={deviceId}
    Then the answer is 200
    And the answer has
      | # | 1 |
    When the server application sends DELETE {registrations}/{registrationId}
    Then the answer is 204

  @r31 @main
  Scenario Outline: A number that an application may not register
    When the server application registers with
      | phoneNumber | <number> |
    Then the answer is <answer>

    Examples:
      | number              | answer                |
      | "+17770000001"      | 403 PERMISSION_DENIED |
      | "+499999999"        | 403 PERMISSION_DENIED |
      | "19990000001"       | 400 INVALID_ARGUMENT  |
      | "+0999000001"       | 400 INVALID_ARGUMENT  |
      | "+1999"             | 400 INVALID_ARGUMENT  |
      | "+1999000000111111" | 400 INVALID_ARGUMENT  |
      | "tel:+19990000001"  | 400 INVALID_ARGUMENT  |
      | 19990000001         | 400 INVALID_ARGUMENT  |
      | ""                  | 400 INVALID_ARGUMENT  |
      | "+1999000000\\n"     | 400 INVALID_ARGUMENT  |

  @r22
  Scenario: r2.2 has no way to name a number
    When the server application registers with
      | phoneNumber | removed |
    Then the answer is 403 INVALID_TOKEN_CONTEXT

  @r22
  Scenario Outline: r2.2 cannot read registrations
    When the device sends GET {registrations}<rest>
    Then the answer is 405 METHOD_NOT_ALLOWED

    Examples:
      | rest                |
      | ?deviceId={uuid}    |
      | /{uuid}             |

  Scenario: A refreshed token serves the same resources
    Given the device is registered
    And the device has a fresh token
    When the device sends PUT {registrations}/{registrationId}
    Then the answer is 204
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 204

  @on-hasty
  Scenario: The number registers with the network
    Given the device has an account with the network that is good
    When the device registers
    Then the answer is 201 (200 in r2.2)
    Given the device is subscribed to everything
    When the network calls the device
    Then the device is invited
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 204
    And the caller is refused with 480

  @on-hasty
  Scenario Outline: The network does not take the number
    Given the device has an account with the network that is <account>
    When the device registers
    Then the answer is <answer>
    When the device registers
    Then the answer is <answer>

    Examples:
      | account | answer                |
      | refused | 403 PERMISSION_DENIED |
      | unknown | 403 PERMISSION_DENIED |
      | dead    | 503 UNAVAILABLE       |

  @on-hasty
  Scenario: The network does not answer
    Given the device has an account with the network that is silent
    When the device registers
    Then the answer is 504 TIMEOUT
