@on-parted
Feature: Planes of their own
  The control plane and the media node are processes of their own, as an operator
  runs them; what applications see is the same.

  Background:
    Given the device is registered

  Scenario: A call with early media, hold and resume
    Given the device is subscribed to session-status
    And the device is calling
    When the far end sends 183
    Then the device is told "InProgress"
    And the device's media take the answer
    And the device's media become connected
    When the far end answers
    Then the device is told "Connected"
    And both answers are for the same media
    When the device puts "Hold"
    Then the answer is 200
    And the far end's media are "recvonly"
    When the device puts "Resume"
    Then the answer is 200
    And the far end's media are "sendrecv"
    When the device hangs up
    Then the far end hears the hang-up
    And the device has been told "InProgress", "Connected", "Hold", "Resume", "Terminated"

  Scenario: A call from the network
    Given the device is subscribed to session-invitation
    When the network calls the device
    Then the device is invited
    When the device puts "Connected" with an answer
    Then the answer is 200
    And the caller is answered
    And the device's media become connected
    When the caller gives up
    Then the session of the device is "Terminated"

  Scenario: A refused call
    Given the device is subscribed to session-status
    And the device is calling
    When the far end rejects with 486
    Then the device has been told "Busy"

  Scenario: A call without media is lost
    Given the device is subscribed to session-status
    And the device is in a call
    And the media of the device are connected
    Then the device is told "Terminated" with
      | reason | /media/ |
    And the far end hears the hang-up
    And the session of the device is "Terminated"

  Scenario: Media may rest while a call is on hold
    Given the device is subscribed to session-status
    And the device is in a call
    And the media of the device are connected
    When the device puts "Hold"
    Then the answer is 200
    Given the second device is registered
    And the second device is subscribed to session-status
    And the second device is in a call
    And the media of the second device are connected
    Then the second device is told "Terminated"
    And the session of the device is "Hold"

  @r22
  Scenario: r2.2 may have its states in the envelope, as its schema has it
    Given the device is subscribed to session-status
    And the device is in a call
    When the device hangs up
    Then the device gets a session-status event with
      | mediaSessionId      | {sessionId}    |
      | status              | Terminated     |
      | data.mediaSessionId | {sessionId}    |
      | data.status         | Terminated     |

  @r31
  Scenario: Newer generations never have states in the envelope
    Given the device is subscribed to session-status
    And the device is in a call
    When the device hangs up
    Then the device gets a session-status event with
      | mediaSessionId | absent     |
      | status         | absent     |
      | data.status    | Terminated |

  Scenario: A number that needs an emergency address
    Given the stranger has a number without an emergency address
    When the stranger registers
    Then the answer is 400 EMERGENCY_ADDRESS_MISSING

  @r31 @main
  Scenario: A number that needs an emergency address, by an application's own token
    Given the server application has a number without an emergency address
    When the server application registers
    Then the answer is 400 EMERGENCY_ADDRESS_MISSING
