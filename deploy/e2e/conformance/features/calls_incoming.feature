Feature: Calls from the network
  Every device that is registered for the called number and has asked for
  invitations gets a session of its own; the first to answer has the call.

  Scenario: A number without devices
    When the network calls the device
    Then the caller is refused with 480

  Scenario: A device that has not asked for invitations
    Given the device is registered
    And the device is subscribed to session-status
    When the network calls the device
    Then the caller is refused with 480

  Scenario: A number that is not the gateway's
    When the network calls a number that is not served
    Then the caller is refused with 404

  Scenario: An invitation
    Given the device is registered
    And the device is subscribed to everything
    When the network calls the device as "Grace H."
    Then the device is invited
    And the device gets a session-invitation event with
      | data.mediaSessionId    | {sessionId}  |
      | data.originatorAddress | tel:{far}    |
      | data.originatorName    | Grace H.     |
      | data.receiverAddress   | tel:{number} |
      | data.status            | Initial      |
      | data.offer.sdp         | present      |
      | data.sequenceNumber    | 1            |
      | data.subscriptionId    | a UUID       |
      | specversion            | 1.0          |
      | datacontenttype        | application/json |
      | time                   | now          |
    When the device sends GET {calls}/{sessionId}
    Then the answer is 200
    And the answer has
      | mediaSessionId    | {sessionId}  |
      | originatorAddress | tel:{far}    |
      | originatorName    | Grace H.     |
      | receiverAddress   | tel:{number} |
      | status            | Initial      |
      | offer.sdp         | present      |
      | answer            | absent       |

  Scenario: A call is taken step by step
    Given the device is registered
    And the device is subscribed to everything
    When the network calls the device
    Then the device is invited
    When the device puts "InProgress" with an answer
    Then the answer is 200
    And the answer has
      | status     | InProgress |
      | answer.sdp | present    |
    And the caller hears 183
    And the device's media become connected
    When the device puts "Ringing"
    Then the answer is 200
    And the answer has
      | status | Ringing |
    And the caller hears 180
    When the device puts "Connected"
    Then the answer is 200
    And the answer has
      | status | Connected |
    And the caller is answered
    When the far end hangs up
    Then the device has been told "InProgress", "Ringing", "Connected", "Terminated"

  Scenario: A call is answered at once
    Given the device is registered
    And the device is subscribed to everything
    When the network calls the device
    Then the device is invited
    When the device puts "Connected" with an answer
    Then the answer is 200
    And the caller is answered
    And the device's media become connected
    When the device hangs up
    Then the far end hears the hang-up
    And the device has been told "Connected", "Terminated"

  Scenario: A step may be repeated
    Given the device is registered
    And the device is subscribed to everything
    And the network calls the device
    And the device is invited
    When the device puts "InProgress" with an answer
    And the device puts "InProgress" with an answer
    Then the answer is 200
    When the device puts "Ringing"
    And the device puts "Ringing"
    Then the answer is 200
    When the device puts "Connected" with an answer
    Then the answer is 200
    When the device puts "Connected" with an answer
    Then the answer is 200
    When the device hangs up
    Then the device has been told "InProgress", "Ringing", "Connected", "Terminated"

  Scenario: An answer is needed to be connected
    Given the device is registered
    And the device is subscribed to everything
    And the network calls the device
    And the device is invited
    When the device puts "Connected"
    Then the answer is 400 INVALID_ARGUMENT
    When the device puts "Ringing"
    Then the answer is 200
    When the device puts "Connected"
    Then the answer is 400 INVALID_ARGUMENT

  Scenario Outline: What does not answer an invitation
    Given the device is registered
    And the device is subscribed to everything
    And the network calls the device
    And the device is invited
    When the device puts "<status>" with
      | <property> | <value> |
    Then the answer is <answer>
    And the session of the device is "Initial"

    Examples:
      | status     | property | value                | answer                 |
      | Connected  | answer   | {"sdp":"hello"}      | 400 INVALID_ARGUMENT   |
      | InProgress | answer   | {"sdp":"v=0\\r\\n"}  | 400 INVALID_ARGUMENT   |
      | InProgress | offer    | {"sdp":{answer}}     | 400 INVALID_ARGUMENT   |
      | Hold       | answer   | {"sdp":{answer}}     | 409 INCOMPATIBLE_STATE |
      | Resume     | answer   | {"sdp":{answer}}     | 409 INCOMPATIBLE_STATE |

  Scenario: A call is declined
    Given the device is registered
    And the device is subscribed to everything
    And the network calls the device
    And the device is invited
    When the device hangs up
    Then the caller is refused with 603
    And the device has been told "Declined"
    When the device sends GET {calls}/{sessionId}
    Then the answer is 404 NOT_FOUND

  @on-hasty
  Scenario: A gateway may decline as busy
    Given the device is registered
    And the device is subscribed to everything
    And the network calls the device
    And the device is invited
    When the device hangs up
    Then the caller is refused with 486
    And the device has been told "Declined"

  Scenario: A call is declined while it rings
    Given the device is registered
    And the device is subscribed to everything
    And the network calls the device
    And the device is invited
    And the device puts "Ringing"
    When the device hangs up
    Then the caller is refused with 603
    And the device has been told "Ringing", "Declined"

  Scenario: The caller gives up
    Given the device is registered
    And the device is subscribed to everything
    And the network calls the device
    And the device is invited
    And the device puts "Ringing"
    When the caller gives up
    Then the device has been told "Ringing", "SessionCancelled"
    When the device puts "Connected" with an answer
    Then the answer is 409 INCOMPATIBLE_STATE
    And the session of the device is "SessionCancelled"

  @on-hasty
  Scenario: Nobody answers
    Given the device is registered
    And the device is subscribed to everything
    And the network calls the device
    And the device is invited
    And the device puts "Ringing"
    Then the caller is refused with 480
    And the device has been told "Ringing", "NoAnswer"

  Scenario: Two devices ring and the first to answer has the call
    Given the device is registered
    And the device is subscribed to everything
    And the second device is registered
    And the second device is subscribed to everything
    When the network calls the device
    Then the device is invited
    And the second device is invited
    And the device and the second device have different sessions
    When the device puts "Ringing"
    And the second device puts "InProgress" with an answer
    Then the answer is 200
    When the second device puts "Connected"
    Then the answer is 200
    And the caller is answered
    And the device is told "SessionCancelled" with
      | reason | /answered elsewhere/ |
    When the device puts "Connected" with an answer
    Then the answer is 409 INCOMPATIBLE_STATE
    And the session of the second device is "Connected"
    When the second device hangs up
    Then the far end hears the hang-up
    And the second device has been told "InProgress", "Connected", "Terminated"
    And the device has been told "Ringing", "SessionCancelled"

  Scenario: One of two devices declines
    Given the device is registered
    And the device is subscribed to everything
    And the second device is registered
    And the second device is subscribed to everything
    And the network calls the device
    And the device is invited
    And the second device is invited
    When the device hangs up
    Then the device has been told "Declined"
    When the second device puts "Connected" with an answer
    Then the answer is 200
    And the caller is answered

  Scenario: All devices decline
    Given the device is registered
    And the device is subscribed to everything
    And the second device is registered
    And the second device is subscribed to everything
    And the network calls the device
    And the device is invited
    And the second device is invited
    When the device hangs up
    And the second device hangs up
    Then the caller is refused with 603
    And the device has been told "Declined"
    And the second device has been told "Declined"

  Scenario: Two devices ring and the caller gives up
    Given the device is registered
    And the device is subscribed to everything
    And the second device is registered
    And the second device is subscribed to everything
    And the network calls the device
    And the device is invited
    And the second device is invited
    When the caller gives up
    Then the device has been told "SessionCancelled"
    And the second device has been told "SessionCancelled"

  Scenario: Giving up a registration takes its device off the call
    Given the device is registered
    And the device is subscribed to everything
    And the second device is registered
    And the second device is subscribed to everything
    And the network calls the device
    And the device is invited
    And the second device is invited
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 204
    When the second device puts "Connected" with an answer
    Then the answer is 200
    And the caller is answered

  Scenario: A caller without an offer
    Given the device is registered
    And the device is subscribed to everything
    When the network calls the device without an offer
    Then the device is invited
    When the device puts "Connected" with an answer
    Then the answer is 200
    And the caller is answered
    And the device's media become connected
    And the far end's media are "sendrecv"
    When the far end hangs up
    Then the device has been told "Connected", "Terminated"

  Scenario: A caller who withholds the number
    Given the device is registered
    And the device is subscribed to everything
    When the network calls the device anonymously
    Then the device gets a session-invitation event with
      | data.originatorAddress | sip:anonymous@anonymous.invalid |
      | data.originatorName    | absent                          |

  Scenario: The device holds and resumes
    Given the device is registered
    And the device is subscribed to everything
    And the device is in a call from the network
    When the device puts "Hold"
    Then the answer is 200
    And the answer has
      | status | Hold |
    And the far end's media are "recvonly"
    When the device puts "Resume"
    Then the answer is 200
    And the answer has
      | status | Resume |
    And the far end's media are "sendrecv"
    When the device hangs up
    Then the device has been told "Connected", "Hold", "Resume", "Terminated"

  Scenario: The caller holds and resumes
    Given the device is registered
    And the device is subscribed to everything
    And the device is in a call from the network
    When the far end stops all media
    Then the device is told "Hold"
    And the session of the device is "Hold"
    When the far end resumes the call
    Then the device is told "Resume"
    And the session of the device is "Connected"

  Scenario: An invitation without an interest in states
    Given the device is registered
    And the device is subscribed to session-invitation
    And the network calls the device
    And the device is invited
    When the device puts "Ringing"
    And the device hangs up
    And the caller is refused with 603
    And the device ends its subscription
    Then the sink of the device has got exactly
      | session-invitation | Initial              |
      | subscription-ended | SUBSCRIPTION_DELETED |

  Scenario: Each device hears of its own sessions
    Given the device is registered
    And the device is subscribed to session-status
    And the second device is registered
    And the second device is subscribed to everything
    When the network calls the device
    Then the second device is invited
    When the second device puts "Connected" with an answer
    And the second device hangs up
    Then the second device has been told "Connected", "Terminated"
    When the device ends its subscription
    Then the sink of the device has got exactly
      | subscription-ended | SUBSCRIPTION_DELETED |
