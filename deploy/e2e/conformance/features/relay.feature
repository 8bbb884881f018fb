Feature: The Notification Relay
  A device that cannot be reached gets its events from a relay, which is a sink for
  them: it opens a channel, subscribes with the channel's sink, and reads.

  Background:
    Given the device is registered
    And the device has opened a relay channel

  Scenario Outline: Events are read as they come
    Given the device is subscribed to session-status with
      | sink           | "{relay sink}"     |
      | sinkCredential | {relay credential} |
    And the device reads the relay by <stream>
    When the device is in a call
    Then the device has read "Connected"
    When the device hangs up
    Then the device has read "Connected", "Terminated"

    Examples:
      | stream             |
      | server-sent events |
      | WebSocket          |

  Scenario Outline: Nothing is lost while nobody reads, and nothing comes twice
    Given the device is subscribed to session-status with
      | sink           | "{relay sink}"     |
      | sinkCredential | {relay credential} |
    And the device is in a call
    And the device reads the relay by <stream>
    And the device has read "Connected"
    When the device stops reading
    And the device puts "Hold"
    And the device hangs up
    And the device goes on reading by <stream>
    Then the device has read "Connected", "Hold", "Terminated"

    Examples:
      | stream             |
      | server-sent events |
      | WebSocket          |

  Scenario: A channel's credential is changed and the old one is still good for a while
    Given the device is subscribed to session-status with
      | sink           | "{relay sink}"     |
      | sinkCredential | {relay credential} |
    And the device has changed the credential of its relay channel
    And the device reads the relay by server-sent events
    When the device is in a call
    And the device hangs up
    Then the device has read "Connected", "Terminated"

  Scenario: A sink's credential is needed
    Given the device is subscribed to session-status with
      | sink           | "{relay sink}" |
      | sinkCredential | {"credentialType":"ACCESSTOKEN","accessToken":"guessed","accessTokenExpiresUtc":"{in 1h}","accessTokenType":"bearer"} |
    When the device is in a call
    Then the subscription of the device is gone

  Scenario: A channel that is closed ends what was subscribed with it
    Given the device is subscribed to session-status with
      | sink           | "{relay sink}"     |
      | sinkCredential | {relay credential} |
    When the device sends DELETE {relay}
    Then the answer is 204
    When the device is in a call
    Then the subscription of the device is gone
    When the device sends GET {relay}/stream
    Then the answer is 410 GONE

  Scenario Outline: A channel belongs to who opened it
    When <who> sends <method> {relay}<path>
    Then the answer is 404 NOT_FOUND

    Examples:
      | who                   | method | path         |
      | the stranger          | GET    | /stream      |
      | the stranger          | GET    | /socket      |
      | the other application | GET    | /stream      |
      | the stranger          | POST   | /tickets     |
      | the stranger          | POST   | /credentials |
      | the stranger          | DELETE |              |

  Scenario: A ticket is good once
    When the device sends POST {relay}/tickets
    Then the answer is 201
    And the answer's "ticket" is kept as "ticket"
    When the device sends DELETE {relay}
    Then the answer is 204
    Given the next request has no token
    When the device sends GET {relay}/stream?ticket={ticket}
    Then the answer is 410 GONE
    Given the next request has no token
    When the device sends GET {relay}/stream?ticket={ticket}
    Then the answer is 401 UNAUTHENTICATED

  Scenario: A channel needs a token
    Given the next request has no token
    When the device sends POST /relay/channels
    Then the answer is 401 UNAUTHENTICATED
    Given the next request has no token
    When the device sends GET {relay}/stream
    Then the answer is 401 UNAUTHENTICATED

  Scenario Outline: What the relay does not have
    When the device sends <method> <path>
    Then the answer is <answer>

    Examples:
      | method | path                   | answer                 |
      | GET    | /relay/channels        | 405 METHOD_NOT_ALLOWED |
      | POST   | /relay/sinks/guessed   | 404 NOT_FOUND          |
      | GET    | /relay/elsewhere       | 404 NOT_FOUND          |
      | GET    | /relay/channels/{uuid}/stream | 404 NOT_FOUND   |
