Feature: All generations at once
  One gateway serves every generation; registrations, calls and subscriptions are
  the same behind all of them.

  Scenario Outline: Every path of a registration leads to it
    Given the device is registered
    When the device sends PUT /webrtc-registration/<version>/sessions/{registrationId}
    Then the answer is 204

    Examples:
      | version |
      | v0.4    |
      | v0.4rc1 |
      | vwip    |
      | v0.3    |

  Scenario Outline: Every path of a call leads to it
    Given the device is registered
    And the device is in a call
    When the device sends GET /webrtc-call-handling/<version>/sessions/{sessionId}
    Then the answer is 200
    And the answer has
      | mediaSessionId | {sessionId} |
      | status         | Connected   |
    And the device has the offer byte by byte in the answer
    When the device sends PUT /webrtc-call-handling/<version>/sessions/{sessionId}/status with
      """
      {"status": "Hold"}
      """
    Then the answer is 200
    And the session of the device is "Hold"
    When the device sends DELETE /webrtc-call-handling/<version>/sessions/{sessionId}
    Then the answer is 204
    And the far end hears the hang-up

    Examples:
      | version |
      | v0.4    |
      | v0.4rc1 |
      | vwip    |
      | v0.3    |

  Scenario Outline: Every path of a subscription leads to it
    Given the device is registered
    And the device is subscribed to session-status
    When the device sends GET <api>/subscriptions/{subscriptionId}
    Then the answer is 200
    And the answer has
      | id | {subscriptionId} |
    When the device sends GET <api>/subscriptions
    Then the answer is 200
    And the answer has
      | # | 1 |
    When the device sends DELETE <api>/subscriptions/{subscriptionId}
    Then the answer is 204
    And the subscription of the device is gone

    Examples:
      | api                                 |
      | /webrtc-events-subscriptions/v0.3   |
      | /webrtc-events-subscriptions/v0.3rc1 |
      | /webrtc-events-subscriptions/vwip   |
      | /webrtc-events/v0.3                 |
      | /webrtc-events/vwip                 |
      | /webrtc-events/v0.2                 |
      | /webrtc-events-suscription/v0.2     |
      | /webrtc-events-suscription/v0.3     |
      | /webrtc-events-suscription/v0.3rc1  |
      | /webrtc-events-suscription/vwip     |

  @r31
  Scenario Outline: A whole call on the aliases of the paths
    Given from here on the paths are <registrations>, <calls> and <subscriptions>
    And the device is registered
    And the device is subscribed to everything
    And the device is in a call
    When the device hangs up
    Then the far end hears the hang-up
    And the device has been told "Connected", "Terminated"
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 204

    Examples:
      | registrations                         | calls                                   | subscriptions                                      |
      | /webrtc-registration/v0.4rc1/sessions | /webrtc-call-handling/v0.4rc1/sessions  | /webrtc-events-subscriptions/v0.3rc1/subscriptions |
      | /webrtc-registration/vwip/sessions    | /webrtc-call-handling/vwip/sessions     | /webrtc-events-subscriptions/vwip/subscriptions    |
      | /webrtc-registration/v0.4/sessions    | /webrtc-call-handling/v0.4/sessions     | /webrtc-events-suscription/v0.3/subscriptions      |
      | /webrtc-registration/v0.4/sessions    | /webrtc-call-handling/v0.4rc1/sessions  | /webrtc-events-suscription/v0.3rc1/subscriptions   |
      | /webrtc-registration/v0.4/sessions    | /webrtc-call-handling/vwip/sessions     | /webrtc-events-suscription/vwip/subscriptions      |

  @main
  Scenario Outline: A whole call on the aliases of main's paths
    Given from here on the paths are /webrtc-registration/v0.4/sessions, /webrtc-call-handling/v0.4/sessions and <subscriptions>
    And the device is registered
    And the device is subscribed to everything
    And the device is in a call
    When the device hangs up
    Then the device has been told "Connected", "Terminated"

    Examples:
      | subscriptions                                 |
      | /webrtc-events/vwip/subscriptions             |
      | /webrtc-events-suscription/v0.3/subscriptions |
      | /webrtc-events-suscription/vwip/subscriptions |

  @r22
  Scenario: A whole call on the aliases of r2.2's paths
    Given from here on the paths are /webrtc-registration/v0.3/sessions, /webrtc-call-handling/v0.3/sessions and /webrtc-events-suscription/v0.2/subscriptions
    And the device is registered
    And the device is subscribed to everything
    And the device is in a call
    When the device hangs up
    Then the device has been told "Connected", "Terminated"

  @r31
  Scenario: One call is told in the words of three generations
    Given the device is registered
    And the device is subscribed to everything
    And from here on generation r2.2 is used
    And the device is subscribed to session-status
    And the device is subscribed to session-invitation
    And from here on generation main-2026-06 is used
    And the device is subscribed to everything
    When the network calls the device
    Then the device is invited
    When from here on generation r2.2 is used
    Then the device is invited
    And the device gets a session-invitation event with
      | type                   | org.camaraproject.webrtc-events.v0.session-invitation |
      | data.originatorAddress | tel:{far}                                             |
    When the device puts "Ringing"
    Then the answer is 200
    When the device is told "Ringing"
    And from here on generation r3.1 is used
    Then the device is told "Ringing"
    When the device puts "Connected" with an answer
    Then the answer is 200
    And the caller is answered
    When the device hangs up
    Then the device has been told "Ringing", "Connected", "Terminated"
    When from here on generation main-2026-06 is used
    Then the device has been told "Ringing", "Connected", "Terminated"
    And the device gets a session-status event with
      | type        | org.camaraproject.webrtc-events.v0.session-status |
      | data.status | Terminated                                        |
    When from here on generation r2.2 is used
    Then the device has been told "Ringing", "Connected", "Terminated"

  @r31
  Scenario: A call of one generation in the words of another
    Given the device is registered
    And from here on generation r2.2 is used
    And the device is calling with
      | clientCorrelator | "mine" |
    And from here on generation r3.1 is used
    When the device sends GET {calls}/{sessionId}
    Then the answer is 200
    And the answer has
      | clientCorrelator | absent  |
      | callObjectRef    | absent  |
      | callType         | REGULAR |
    When from here on generation r2.2 is used
    And the device sends GET {calls}/{sessionId}
    Then the answer is 200
    And the answer has
      | clientCorrelator | mine    |
      | callObjectRef    | present |
      | callType         | absent  |

  @r31
  Scenario: A call that waits for its offer
    Given the device is registered
    And from here on generation r2.2 is used
    And the device calls with
      | offer | removed |
    And the answer is 201
    When from here on generation r3.1 is used
    And the device sends GET {calls}/{sessionId}
    Then the answer is 200
    And the answer has
      | offer | {} |

  @r31
  Scenario Outline: Addresses that r2.2 cannot express
    Given the device is registered
    When the device calls with
      | receiverAddress | "<address>" |
    Then the answer is 201
    When from here on generation r2.2 is used
    And the device sends GET {calls}/{sessionId}
    Then the answer is 200
    And the answer has
      | receiverAddress | <shown> |

    Examples:
      | address                     | shown                       |
      | tel:100;phone-context=+1777 | sip:100@ims.example.net     |
      | tel:*21#;phone-context=a.bc | sip:%2A21%23@ims.example.net |
      | sip:grace@example.com       | sip:grace@example.com       |

  @r31 @on-hasty
  Scenario: An emergency call in the words of older generations
    Given the device is registered
    And from here on generation r2.2 is used
    And the device is subscribed to session-status
    And from here on generation r3.1 is used
    When the device calls with
      | receiverAddress | "urn:service:sos" |
    Then the answer is 201
    When from here on generation r2.2 is used
    And the device sends GET {calls}/{sessionId}
    Then the answer is 200
    And the answer has
      | receiverAddress | sip:sos@home.example |

  @r31
  Scenario: A registration of r2.2 that newer generations read
    Given from here on generation r2.2 is used
    And the device is registered
    When from here on generation r3.1 is used
    And the device sends GET {registrations}/{registrationId}
    Then the answer is 200
    And the answer has
      | regInfo.phoneNumber | {number} |
    When the device registers
    Then the answer is 409 ALREADY_EXISTS
