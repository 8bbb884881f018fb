Feature: States of calls that a device makes
  What the telephone network says, and what the device asks for, moves a session
  from state to state; every move is told.

  Background:
    Given the device is registered

  Scenario Outline: What the network says while a call is set up
    Given the device is subscribed to session-status
    And the device is calling
    When the far end sends <code>
    Then the device is told "<status>" with
      | originatorAddress | tel:{number} |
      | receiverAddress   | tel:{far}    |
      | subscriptionId    | {subscriptionId} |
      | sequenceNumber    | 1            |
      | reason            | /<code>/     |
    And the session of the device is "<status>"

    Examples:
      | code | status     |
      | 180  | Ringing    |
      | 181  | Proceeding |
      | 182  | Waiting    |
      | 183  | InProgress |

  Scenario: Progress comes in any order
    Given the device is subscribed to session-status
    And the device is calling
    When the far end sends 181
    And the far end sends 182
    And the far end sends 180
    And the far end sends 182
    And the far end sends 180
    And the far end answers
    Then the device has been told "Proceeding", "Waiting", "Ringing", "Waiting", "Ringing", "Connected"

  Scenario: A response that means nothing to the device is not told
    Given the device is subscribed to session-status
    And the device is calling
    When the far end sends 199
    And the far end sends 180
    Then the device has been told "Ringing"

  Scenario Outline: How the network refuses a call
    Given the device is subscribed to session-status
    And the device is calling
    When the far end rejects with <code>
    Then the device has been told "<status>"
    And the session of the device is "<status>"
    When the device puts "Connected"
    Then the answer is 409 INCOMPATIBLE_STATE

    Examples:
      | code | status           |
      | 486  | Busy             |
      | 600  | Busy             |
      | 603  | Declined         |
      | 607  | Declined         |
      | 404  | NotReachable     |
      | 410  | NotReachable     |
      | 480  | NotReachable     |
      | 484  | NotReachable     |
      | 604  | NotReachable     |
      | 408  | NoAnswer         |
      | 487  | SessionCancelled |
      | 412  | Failed           |
      | 430  | Failed           |
      | 403  | Failed           |
      | 488  | Failed           |
      | 500  | Failed           |
      | 302  | Failed           |

  Scenario Outline: The network's own cause outranks the code
    Given the device is subscribed to session-status
    And the device is calling
    When the far end rejects with <code> and cause <cause>
    Then the device has been told "<status>"

    Examples:
      | code | cause | status       |
      | 480  | 17    | Busy         |
      | 500  | 18    | NoAnswer     |
      | 500  | 19    | NoAnswer     |
      | 403  | 21    | Declined     |
      | 503  | 1     | NotReachable |
      | 500  | 3     | NotReachable |
      | 500  | 20    | NotReachable |
      | 500  | 22    | NotReachable |
      | 500  | 28    | NotReachable |
      | 486  | 34    | Failed       |
      | 480  | 38    | Failed       |
      | 480  | 41    | Failed       |
      | 480  | 42    | Failed       |
      | 480  | 47    | Failed       |
      | 486  | 31    | Busy         |

  @r31 @main
  Scenario: The network's own cause is told
    Given the device is subscribed to session-status
    And the device is calling
    When the far end rejects with 480 and cause 17
    Then the device is told "Busy" with
      | reason | /^SIP 480 .*; Q\.850 17$/ |

  Scenario: Ringing without an answer
    Given the device is subscribed to session-status
    And the device is calling
    When the far end sends 180
    And the far end rejects with 480
    Then the device has been told "Ringing", "NoAnswer"

  @on-hasty
  Scenario: A call that is never answered is cancelled
    Given the device is subscribed to session-status
    And the device is calling
    When the far end sends 180
    Then the far end hears of the cancellation
    And the device has been told "Ringing", "NoAnswer"

  @r31 @main
  Scenario: The reason is the network's
    Given the device is subscribed to session-status
    And the device is calling
    When the far end rejects with 486
    Then the device is told "Busy" with
      | reason | /^SIP 486 Busy/ |

  @r22
  Scenario: In r2.2 the reason comes without the protocol
    Given the device is subscribed to session-status
    And the device is calling with
      | clientCorrelator | "mine" |
    When the far end rejects with 486
    Then the device is told "Busy" with
      | reason           | /^486 Busy/ |
      | clientCorrelator | mine        |
      | serverCorrelator | a UUID      |
      | callObjectRef    | present     |

  Scenario: Early media and the answer are one description
    Given the device is subscribed to session-status
    And the device is calling
    When the far end sends 183
    Then the device is told "InProgress" with
      | answer.sdp | present |
    And the device's media take the answer
    And the media of the device are connected
    When the far end answers
    Then the device is told "Connected"
    And both answers are for the same media
    When the device hangs up
    Then the far end hears the hang-up

  Scenario: Ringing may bring a description
    Given the device is subscribed to session-status
    And the device is calling
    When the far end sends 180 with a description
    Then the device is told "Ringing" with
      | answer.sdp | present |
    And the device's media take the answer
    And the device's media become connected
    When the far end answers
    Then the device is told "Connected"
    And both answers are for the same media

  Scenario: A call that forks
    Given the device is subscribed to session-status
    And the device is calling
    When the far end sends 180
    And another branch of the far end sends 183
    Then the device is told "InProgress" with
      | answer.sdp | present |
    When the far end sends 183
    And the far end answers
    Then the device has been told "Ringing", "InProgress", "InProgress", "Connected"
    And the media of the device are connected
    When the device hangs up
    Then the far end hears the hang-up

  Scenario: An answered call
    Given the device is subscribed to session-status
    And the device is calling
    And the far end sends 180
    When the far end answers
    Then the device is told "Connected" with
      | answer.sdp     | present |
      | offer          | absent  |
      | sequenceNumber | 2       |
    When the device sends GET {calls}/{sessionId}
    Then the answer is 200
    And the answer has
      | status | Connected |
    And the answer's description is WebRTC's
    And the media of the device are connected

  Scenario: The device hangs up
    Given the device is subscribed to session-status
    And the device is in a call
    When the device hangs up
    Then the far end hears the hang-up
    And the device has been told "Connected", "Terminated"
    When the device sends GET {calls}/{sessionId}
    Then the answer is 404 NOT_FOUND
    When the device sends DELETE {calls}/{sessionId}
    Then the answer is 404 NOT_FOUND
    When the device puts "Hold"
    Then the answer is 404 NOT_FOUND

  Scenario: The far end hangs up
    Given the device is subscribed to session-status
    And the device is in a call
    When the far end hangs up
    Then the device has been told "Connected", "Terminated"
    And the session of the device is "Terminated"
    When the device puts "Hold"
    Then the answer is 409 INCOMPATIBLE_STATE
    When the device hangs up
    And the device sends GET {calls}/{sessionId}
    Then the answer is 404 NOT_FOUND

  @on-hasty
  Scenario: An ended session can be read for a while
    Given the device is in a call
    When the far end hangs up
    Then the session of the device becomes "Terminated"
    And the session of the device is gone

  Scenario: The device gives up
    Given the device is subscribed to session-status
    And the device is calling
    And the far end sends 180
    And the device is told "Ringing"
    When the device hangs up
    Then the far end hears of the cancellation
    And the device has been told "Ringing", "SessionCancelled"
    When the device sends GET {calls}/{sessionId}
    Then the answer is 404 NOT_FOUND

  Scenario Outline: A session that is not the caller's does not exist
    Given the device is calling
    When <who> sends <method> {calls}/<id>
    Then the answer is 404 NOT_FOUND

    Examples:
      | who                   | method | id                       |
      | the device            | GET    | {uuid}                   |
      | the device            | GET    | anything                 |
      | the stranger          | GET    | {the device's sessionId} |
      | the other application | GET    | {the device's sessionId} |
      | the device            | DELETE | {uuid}                   |
      | the stranger          | DELETE | {the device's sessionId} |
      | the other application | DELETE | {the device's sessionId} |

  Scenario Outline: The status of a session that is not the caller's
    Given the device is calling
    When <who> sends PUT {calls}/<id>/status with
      """
      {"status": "InProgress"}
      """
    Then the answer is 404 NOT_FOUND

    Examples:
      | who                   | id                       |
      | the device            | {uuid}                   |
      | the stranger          | {the device's sessionId} |
      | the other application | {the device's sessionId} |

  Scenario: A second device of the subscriber may take part in its calls
    Given the device is calling
    When the second device sends GET {calls}/{the device's sessionId}
    Then the answer is 200

  Scenario Outline: A status that cannot be asked for
    Given the device is calling
    When the device puts "<status>"
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | status           |
      | Initial          |
      | Proceeding       |
      | Waiting          |
      | Terminated       |
      | SessionCancelled |
      | Declined         |
      | Failed           |
      | NoAnswer         |
      | NotReachable     |
      | Busy             |
      | connected        |
      | Sleeping         |

  @r31 @main
  Scenario Outline: A change of status that lacks what it needs, or has what it must not
    Given the device is calling
    When the device puts "InProgress" with
      | <property> | <value> |
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | property        | value                  |
      | status          | removed                |
      | status          | ""                     |
      | status          | null                   |
      | status          | 7                      |
      | offer           | {"sdp":"hello"}        |
      | offer           | {"sdp":""}             |
      | offer           | {"sdp":"{text 65537}"} |
      | colour          | "green"                |
      | offer           | {"sdp":{offer},"a":1}  |
      | locationDetails | {"shape":"Square"}     |

  @r31 @main
  Scenario: What older applications send with a status is ignored
    Given the device is in a call
    When the device puts "Connected" with
      | originatorAddress | "tel:{number}" |
      | originatorName    | "Ada"          |
      | receiverAddress   | "tel:{far}"    |
      | receiverName      | "Grace"        |
      | mediaSessionId    | "{uuid}"       |
      | callType          | "REGULAR"      |
    Then the answer is 200
    And the answer has
      | mediaSessionId | {sessionId} |

  Scenario Outline: A status in the wrong state
    Given the device is calling
    When the device puts "<status>"
    Then the answer is 409 INCOMPATIBLE_STATE

    Examples:
      | status    |
      | Connected |
      | Hold      |
      | Resume    |
      | Ringing   |

  Scenario: Resume needs a hold
    Given the device is in a call
    When the device puts "Resume"
    Then the answer is 409 INCOMPATIBLE_STATE

  Scenario: Ringing is over once a call is answered
    Given the device is in a call
    When the device puts "Ringing"
    Then the answer is 409 INCOMPATIBLE_STATE

  Scenario: The current status again changes nothing
    Given the device is subscribed to session-status
    And the device is in a call
    When the device puts "Connected"
    Then the answer is 200
    And the answer has
      | status     | Connected |
      | answer.sdp | present   |
      | offer.sdp  | present   |
    When the device hangs up
    Then the device has been told "Connected", "Terminated"

  Scenario: Hold and resume
    Given the device is subscribed to session-status
    And the device is in a call
    When the device puts "Hold"
    Then the answer is 200
    And the answer has
      | status | Hold |
    And the far end's media are "recvonly"
    And the session of the device is "Hold"
    When the device puts "Hold"
    Then the answer is 200
    And the answer has
      | status | Hold |
    When the device puts "Resume"
    Then the answer is 200
    And the answer has
      | status | Resume |
    And the far end's media are "sendrecv"
    And the session of the device is "Connected"
    When the device hangs up
    Then the device has been told "Connected", "Hold", "Resume", "Terminated"

  Scenario: Hold with an offer brings an answer
    Given the device is in a call
    And the media of the device are connected
    When the device puts "Hold" with a new offer
    Then the answer is 200
    And the answer has
      | status     | Hold    |
      | answer.sdp | present |
    And the answer's description is WebRTC's
    And the device's media take the answer's description

  Scenario: The far end holds and resumes
    Given the device is subscribed to session-status
    And the device is in a call
    When the far end puts the call on hold
    Then the device is told "Hold"
    And the session of the device is "Hold"
    When the far end resumes the call
    Then the device is told "Resume"
    And the session of the device is "Connected"
    When the far end hangs up
    Then the device has been told "Connected", "Hold", "Resume", "Terminated"

  Scenario: Both sides hold
    Given the device is subscribed to session-status
    And the device is in a call
    And the far end puts the call on hold
    And the device is told "Hold"
    When the device puts "Hold"
    Then the answer is 200
    When the device puts "Resume"
    Then the answer is 200
    And the session of the device is "Hold"
    When the far end resumes the call
    Then the session of the device is "Connected"

  Scenario: The far end refuses to be held
    Given the device is in a call
    And the far end refuses changes
    When the device puts "Hold"
    Then the answer is 409 INCOMPATIBLE_STATE
    And the session of the device is "Connected"

  @on-hasty
  Scenario: The far end takes its time to be held
    Given the device is subscribed to session-status
    And the device is in a call
    And the far end takes 1s to agree to changes
    When the device puts "Hold"
    Then the answer is 200
    And the answer has
      | status | Hold |
    When the device puts "Resume"
    Then the answer is 409 INCOMPATIBLE_STATE
    And the device is told "Hold"
    And the session of the device is "Hold"

  @on-hasty
  Scenario: The far end takes its time to refuse
    Given the device is subscribed to session-status
    And the device is in a call
    And the far end refuses changes
    And the far end takes 1s to agree to changes
    When the device puts "Hold"
    Then the answer is 200
    And the device has been told "Connected", "Connected"
    And the session of the device is "Connected"

  Scenario: A new offer before the answer
    Given the device is subscribed to session-status
    And the device is calling
    And the far end sends 183
    And the device is told "InProgress"
    And the media of the device are connected
    When the device puts "InProgress" with a new offer
    Then the answer is 200
    And the answer has
      | status     | InProgress |
      | offer.sdp  | {newOffer} |
      | answer.sdp | present    |

  Scenario: A new offer in a call
    Given the device is in a call
    And the media of the device are connected
    When the device puts "Connected" with a new offer
    Then the answer is 200
    And the answer has
      | status    | Connected  |
      | offer.sdp | {newOffer} |
    And the device's media take the answer's description

  Scenario: An answer to nothing
    Given the device is in a call
    When the device puts "Connected" with
      | answer | {"sdp":{offer}} |
    Then the answer is 400 INVALID_ARGUMENT

  @r31 @main
  Scenario: The caller moves
    Given the device is in a call
    When the device puts "Connected" with
      | locationDetails | {"shape":"Circle","coordinates":{"latitude":1,"longitude":2,"radius":3}} |
    Then the answer is 200
    And the answer has
      | locationDetails.coordinates.longitude | 2 |
    When the device sends GET {calls}/{sessionId}
    Then the answer has
      | locationDetails.shape | Circle |

  @r22
  Scenario: In r2.2 the offer may come later
    Given the device is subscribed to session-status
    When the device calls with
      | offer | removed |
    Then the answer is 201
    And the answer has
      | status        | Initial |
      | offerRequired | true    |
      | offer         | absent  |
    And no call has arrived at the far end
    When the device sends GET {calls}/{sessionId}
    Then the answer has
      | offerRequired | true |
    When the device puts "InProgress" with
      | offer | {"sdp":{offer}} |
    Then the answer is 200
    And the answer has
      | offerRequired | absent  |
      | offer.sdp     | present |
    And the call arrives at the far end
    When the far end answers
    Then the device is told "Connected"

  @r22 @on-hasty
  Scenario: In r2.2 the offer may come too late
    Given the device is subscribed to session-status
    When the device calls with
      | offer | removed |
    Then the answer is 201
    And the device has been told "Failed"

  @r22
  Scenario: In r2.2 a request may be made twice
    When the device calls with
      | clientCorrelator | "twice" |
    Then the answer is 201
    And the answer's "mediaSessionId" is kept as "first"
    And the call arrives at the far end
    When the device calls with
      | clientCorrelator | "twice" |
    Then the answer is 201
    And the answer has
      | mediaSessionId | {first} |
    And no call has arrived at the far end
    When the device calls with
      | clientCorrelator | "again" |
    Then the answer is 201
    And the call arrives at the far end

  @r22
  Scenario Outline: What a new call of r2.2 must not have
    When the device calls with
      | <property> | <value> |
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | property        | value           |
      | answer          | {"sdp":{offer}} |
      | status          | "Connected"     |
      | offer           | {"sdp":"hello"} |
      | receiverAddress | removed         |
      | originatorAddress | removed       |

  @r22
  Scenario Outline: In r2.2 a status may come in a wrapper
    Given the device is in a call
    When the device sends PUT {calls}/{sessionId}/status with
      """
      {"<wrapper>": {"status": "Hold"}}
      """
    Then the answer is 200
    And the answer has
      | status    | Hold   |
      | <wrapper> | absent |

    Examples:
      | wrapper               |
      | receiverSessionStatus |
      | ReceiverSessionStatus |

  @r22
  Scenario: In r2.2 a change of status may be empty
    Given the device is in a call
    When the device sends PUT {calls}/{sessionId}/status with
      """
      {}
      """
    Then the answer is 200
    And the answer has
      | status | Connected |
    When the device sends PUT {calls}/{sessionId}/status
    Then the answer is 200
    And the answer has
      | status | Connected |

  @r22
  Scenario: r2.2 ignores properties that it does not know
    When the device calls with
      | colour          | "green"              |
      | callType        | "EMERGENCY"          |
      | locationDetails | {"shape":"Square"}   |
    Then the answer is 201

  Scenario: No codec in common
    Given the device is subscribed to session-status
    When the device calls with an offer of a codec that is not relayed
    Then the answer is 201
    And the device has been told "Failed"
    And no call has arrived at the far end

  @r31 @main
  Scenario: An application with a token of its own makes a call
    Given the server application is registered
    And the server application is subscribed to session-status
    When the server application is calling
    Then the INVITE came from "{the server application's number}"
    When the far end answers
    Then the server application is told "Connected"
    When the server application hangs up
    Then the server application has been told "Connected", "Terminated"

  Scenario: The registration counts only when a call is made
    Given the device is calling
    And the next request has the header registrationId "whatever"
    When the device sends GET {calls}/{sessionId}
    Then the answer is 200

  Scenario: A session's id may be written in capitals
    Given the device is calling
    And the answer's "mediaSessionId" in capitals is kept as "CAPITALS"
    When the device sends GET {calls}/{CAPITALS}
    Then the answer is 200
    When the device sends DELETE {calls}/{CAPITALS}
    Then the answer is 204

  @r31 @main
  Scenario: The caller's location goes to the network
    When the device is calling with
      | locationDetails | {"shape":"Circle","coordinates":{"latitude":52.5,"longitude":13.4,"radius":30},"method":"GPS"} |
    Then the INVITE's header Geolocation holds "cid:"
    And the INVITE's body holds "pidf"
    And the INVITE's body holds "52.5"
