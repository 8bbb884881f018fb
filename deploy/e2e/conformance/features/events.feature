Feature: Events
  What happens to a device is sent to the sinks that have asked for it, in order,
  until a sink has it or its subscription ends.

  Background:
    Given the device is registered

  Scenario: The form of an event
    Given the device is subscribed to session-status
    And the device is in a call
    When the device hangs up
    Then the device gets a session-status event with
      | id                  | /^.{1,256}$/          |
      | source              | present               |
      | type                | {type session-status} |
      | specversion         | 1.0                   |
      | time                | now                   |
      | datacontenttype     | application/json      |
      | subject             | absent                |
      | mediaSessionId      | absent                |
      | status              | absent                |
      | data.status         | Terminated            |
      | data.mediaSessionId | {sessionId}           |
      | data.subscriptionId | {subscriptionId}      |
      | data.sequenceNumber | 2                     |
      | data.offer          | absent                |
      | data.answer         | absent                |
    And the deliveries to the device have the header Content-Type "application/cloudevents+json"
    And the deliveries to the device have no header Authorization

  Scenario: The sink's token goes with every event
    Given the device is subscribed to session-status with
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"of-the-sink","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"} |
    And the device is in a call
    When the device hangs up
    Then the device has been told "Connected", "Terminated"
    And the deliveries to the device have the header Authorization "Bearer of-the-sink"

  Scenario: A subscription is ended by its owner
    Given the device is subscribed to session-status
    And the device is in a call
    And the device is told "Connected"
    When the device ends its subscription
    Then the device gets a subscription-ended event with
      | type                   | {type subscription-ended} |
      | data.subscriptionId    | {subscriptionId}          |
      | data.terminationReason | SUBSCRIPTION_DELETED      |
      | data.sequenceNumber    | absent                    |
    And the sink of the device has got exactly
      | session-status     | Connected            |
      | subscription-ended | SUBSCRIPTION_DELETED |

  Scenario: A subscription ends when its events are used up
    Given the device is subscribed to session-status with
      | config.subscriptionMaxEvents | 2 |
    And the device is calling
    When the far end sends 180
    And the far end sends 182
    And the far end sends 180
    And the far end answers
    Then the device gets a subscription-ended event with
      | data.terminationReason | MAX_EVENTS_REACHED |
    And the subscription of the device is gone
    And the sink of the device has got exactly
      | session-status     | Ringing            |
      | session-status     | Waiting            |
      | subscription-ended | MAX_EVENTS_REACHED |

  Scenario: A subscription ends at its end
    Given the device is subscribed to session-status with
      | config.subscriptionExpireTime | "{in 3s}" |
    Then the device gets a subscription-ended event with
      | data.terminationReason | SUBSCRIPTION_EXPIRED |
    And the subscription of the device is gone
    And the sink of the device has got exactly
      | subscription-ended | SUBSCRIPTION_EXPIRED |

  Scenario: A subscription ends just before the token of its sink
    Given the device is subscribed to session-status with
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"short","accessTokenExpiresUtc":"{in 10s}","accessTokenType":"bearer"} |
    Then the device gets a subscription-ended event with
      | data.terminationReason | ACCESS_TOKEN_EXPIRED |
    And the deliveries to the device have the header Authorization "Bearer short"
    And the subscription of the device is gone

  Scenario: The first limit that is reached ends a subscription
    Given the device is subscribed to session-status with
      | config.subscriptionMaxEvents  | 1             |
      | config.subscriptionExpireTime | "{in 4s}"     |
    And the device is in a call
    Then the subscription of the device is gone
    And the sink of the device has got exactly
      | session-status     | Connected          |
      | subscription-ended | MAX_EVENTS_REACHED |

  @r31 @main
  Scenario: A subscription with a new end outlives the old one
    Given the device is subscribed to session-status with
      | config.subscriptionExpireTime | "{in 3s}" |
    And the stranger is registered
    And the stranger is subscribed to session-status with
      | config.subscriptionExpireTime | "{in 4s}" |
    When the device changes its subscription with
      | config.subscriptionExpireTime | "{in 1h}" |
    Then the answer is 200
    And the subscription of the stranger is gone
    When the device sends GET {subscriptions}/{subscriptionId}
    Then the answer is 200

  @r31 @main
  Scenario: A subscription with a new token for its sink outlives the old one
    Given the device is subscribed to session-status with
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"old","accessTokenExpiresUtc":"{in 4s}","accessTokenType":"bearer"} |
    And the stranger is registered
    And the stranger is subscribed to session-status with
      | config.subscriptionExpireTime | "{in 5s}" |
    When the device changes its subscription with
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"new","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"} |
    Then the answer is 200
    And the subscription of the stranger is gone
    When the device sends GET {subscriptions}/{subscriptionId}
    Then the answer is 200

  Scenario: A sink that is gone ends its subscription without a word
    Given the device is subscribed to session-status
    And the sink of the device will answer 410
    When the device is in a call
    Then the subscription of the device is gone
    When the device subscribes
    And the device hangs up
    Then the device is told "Terminated"
    And the sink of the device has got exactly
      | session-status | Terminated |

  Scenario: A sink that refuses its token ends its subscription
    Given the device is subscribed to session-status
    And the sink of the device will answer 401
    When the device is in a call
    Then the device gets a subscription-ended event with
      | data.terminationReason | ACCESS_TOKEN_EXPIRED |
    And the subscription of the device is gone

  Scenario Outline: A sink in trouble gets the event again, and nothing before it
    Given the device is subscribed to session-status
    And the sink of the device will answer <answers>
    When the device is calling
    And the far end sends 180
    And the far end answers
    Then the device has been told "Ringing", "Connected"
    And the first event of the device came <times> times, the last time at least <after> after the first

    Examples:
      | answers                               | times | after |
      | 500                                   | 2     | 20ms  |
      | 503, 502                              | 3     | 40ms  |
      | 408                                   | 2     | 20ms  |
      | 504, 500, 500                         | 4     | 60ms  |
      | 429                                   | 2     | 20ms  |
      | 429 with Retry-After: 1               | 2     | 900ms |
      | 503 with Retry-After: 1               | 2     | 900ms |

  Scenario Outline: An event that a sink does not want is dropped
    Given the device is subscribed to session-status
    And the sink of the device will answer <code>
    When the device is calling
    And the far end sends 180
    And the far end answers
    Then the device is told "Connected"
    And the sink of the device has got exactly
      | session-status | Connected |

    Examples:
      | code |
      | 400  |
      | 403  |
      | 404  |
      | 413  |

  Scenario Outline: A sink cannot send events elsewhere
    Given the device is subscribed to session-status
    And the stranger is registered
    And the sink of the device will answer <code> with Location: {the stranger's sink}
    When the device is calling
    And the far end sends 180
    And the far end answers
    Then the device is told "Connected"
    When the stranger is subscribed to session-status
    And the stranger ends its subscription
    Then the sink of the stranger has got exactly
      | subscription-ended | SUBSCRIPTION_DELETED |

    Examples:
      | code |
      | 301  |
      | 302  |
      | 307  |
      | 308  |

  Scenario Outline: Any success is one
    Given the device is subscribed to session-status
    And the sink of the device will answer <code>
    When the device is calling
    And the far end sends 180
    And the far end answers
    Then the device has been told "Ringing", "Connected"

    Examples:
      | code |
      | 200  |
      | 202  |

  @on-hasty
  Scenario: A sink that does not answer gets the event again
    Given the device is subscribed to session-status
    And the sink of the device will not answer 1 times
    When the device is calling
    And the far end answers
    And the device hangs up
    Then the device is told "Terminated"

  @on-hasty
  Scenario: An event is given up after a time, and the next one is sent
    Given the device is subscribed to session-status
    And the sink of the device answers 500 to everything that is "Ringing"
    When the device is calling
    And the far end sends 180
    And the far end answers
    Then the device is told "Connected"
    And the sink of the device has got exactly
      | session-status | Connected |

  Scenario: A sink in trouble does not hold up another
    Given the device is subscribed to session-status
    And the sink of the device will answer 503 with Retry-After: 30
    And the second device is registered
    And the second device is subscribed to session-status
    And the device is in a call
    When the second device is in a call
    And the second device hangs up
    Then the second device has been told "Connected", "Terminated"

  Scenario: Two subscriptions of one device both get their events
    Given the device is subscribed to session-status
    And the answer's "id" is kept as "first"
    And the device is subscribed to session-status
    And the answer's "id" is kept as "second"
    When the device is in a call
    Then the device gets a session-status event with
      | data.subscriptionId | {first}   |
      | data.sequenceNumber | 1         |
    And the device gets a session-status event with
      | data.subscriptionId | {second}  |
      | data.sequenceNumber | 1         |

  Scenario: A subscription hears of its own device and its own types
    Given the device is subscribed to registration-ends
    And the second device is registered
    And the second device is subscribed to session-status
    When the device is in a call
    And the device hangs up
    And the far end hears the hang-up
    And the device ends its subscription
    And the second device ends its subscription
    Then the sink of the device has got exactly
      | subscription-ended | SUBSCRIPTION_DELETED |
    And the sink of the second device has got exactly
      | subscription-ended | SUBSCRIPTION_DELETED |

  Scenario: Another application hears nothing
    Given the other application is registered
    And the other application is subscribed to session-status
    When the device is in a call
    And the device hangs up
    And the far end hears the hang-up
    And the other application ends its subscription
    Then the sink of the other application has got exactly
      | subscription-ended | SUBSCRIPTION_DELETED |

  @r31 @main
  Scenario: An application with a token of its own hears of its device
    Given the server application is subscribed to everything
    And the server application is registered with
      | registrationExpireTime | "{in 3s}" |
    Then the server application gets a registration-ends event with
      | data.registrationId    | {registrationId}     |
      | data.terminationReason | REGISTRATION_EXPIRED |

  @r22
  Scenario: In r2.2 a subscription may be for one session
    Given the device is subscribed to session-status
    And the device is in a call
    And the device ends its subscription
    And the device gets a subscription-ended event
    And the device subscribes with
      | config.subscriptionDetail.sessionId | "{sessionId}" |
    And the answer is 201
    And the answer has
      | config.subscriptionDetail.sessionId      | {sessionId}      |
      | config.subscriptionDetail.registrationId | {registrationId} |
    And the answer's "id" is kept as "narrow"
    When the device hangs up
    Then the device gets a session-status event with
      | data.subscriptionId | {narrow}   |
      | data.status         | Terminated |
    When the device is in a call
    And the device hangs up
    And the far end hears the hang-up
    And the device ends its subscription
    Then the sink of the device has got exactly
      | session-status     | Connected            |
      | subscription-ended | SUBSCRIPTION_DELETED |
      | session-status     | Terminated           |
      | subscription-ended | SUBSCRIPTION_DELETED |

  @r22
  Scenario: In r2.2 a subscription ends with the registration that is given up
    Given the device is subscribed to registration-ends
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 204
    And the device gets a subscription-ended event with
      | data.terminationReason | NETWORK_TERMINATED |
    And the sink of the device has got exactly
      | subscription-ended | NETWORK_TERMINATED |

  @r22
  Scenario: In r2.2 a replaced registration ends
    Given the device is subscribed to registration-ends
    And the device is registered
    Then the device gets a registration-ends event with
      | data.terminationReason | NETWORK_TERMINATED |
    And the device gets a subscription-ended event with
      | data.terminationReason | NETWORK_TERMINATED |
    And the sink of the device has got exactly
      | registration-ends  | NETWORK_TERMINATED |
      | subscription-ended | NETWORK_TERMINATED |

  @r22
  Scenario: A refreshed registration keeps its subscriptions
    Given the device is subscribed to session-status
    When the device sends PUT {registrations}/{registrationId}
    And the device is in a call
    Then the device has been told "Connected"
