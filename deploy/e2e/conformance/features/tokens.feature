Feature: Access tokens
  A request is judged by its token alone; what is wrong with a token is not told.

  Scenario Outline: A token that is good
    Given the device has a forged token with <property>
    When the device registers
    Then the answer is 201 (200 in r2.2)
    And the answer has
      | regInfo.phoneNumber | {number} |

    Examples:
      | property                        |
      | no flaw                         |
      | two audiences, one of them ours |
      | azp for client_id               |
      | scp for scope                   |
      | typ JWT                         |
      | its number in sub               |
      | an end 10 seconds ago           |
      | a start in 10 seconds           |

  Scenario Outline: A token that is bad
    Given the device has a forged token with <flaw>
    When the device sends GET {subscriptions}
    Then the answer is 401 UNAUTHENTICATED
    And the answer's header WWW-Authenticate holds "Bearer"
    When the device sends POST {registrations}
    Then the answer is 401 UNAUTHENTICATED

    Examples:
      | flaw                       |
      | an end an hour ago         |
      | a start in an hour         |
      | no end                     |
      | another audience           |
      | no audience                |
      | an unknown issuer          |
      | no issuer                  |
      | no client                  |
      | a number that is none      |
      | alg none                   |
      | alg none and a signature   |
      | alg nOnE                   |
      | HS256 with the public key  |
      | HS256 with the key's point |
      | another key                |
      | an unknown key id          |
      | a key in the header        |
      | a key URL in the header    |
      | a certificate URL          |
      | an unknown crit            |
      | typ id_token               |
      | typ dpop+jwt               |
      | a nonce                    |
      | an access token's hash     |
      | an unknown binding         |
      | a changed payload          |
      | the text "nonsense"        |
      | the text "a.b.c"           |
      | the text "e30.e30.e30"     |
      | the text "a b"             |

  Scenario: The issuer is down
    Given the device has a forged token with the issuer that is down
    When the device sends GET {subscriptions}
    Then the answer is 503 UNAVAILABLE

  Scenario Outline: A header field that holds no token
    Given the device is registered
    And the next request has no token
    And the next request has the header <header> "<value>"
    When the device sends GET {subscriptions}
    Then the answer is 401 UNAUTHENTICATED

    Examples:
      | header          | value              |
      | X-Authorization | Bearer {token}     |
      | Cookie          | token={token}      |

  Scenario Outline: Spellings of the header field
    Given the device has a fresh token
    And the next request has the header Authorization "<value>"
    When the device sends GET {subscriptions}
    Then the answer is <answer>

    Examples:
      | value                          | answer              |
      | bearer {token}                 | 200                 |
      | BEARER {token}                 | 200                 |
      | Basic {token}                  | 401 UNAUTHENTICATED |
      | {token}                        | 401 UNAUTHENTICATED |
      | Bearer                         | 401 UNAUTHENTICATED |
      | Bearer {token} {token}         | 401 UNAUTHENTICATED |
      | DPoP {token}                   | 401 UNAUTHENTICATED |

  Scenario: A token in the query does not count
    Given the device has a fresh token
    And the next request has no token
    When the device sends GET {subscriptions}?access_token={token}
    Then the answer is 401 UNAUTHENTICATED

  Scenario: Two tokens are none
    Given the device has a fresh token
    And the next request has the header Authorization "Bearer {token}"
    And the next request has the header Authorization "Bearer {token}"
    When the device sends GET {subscriptions}
    Then the answer is 401 UNAUTHENTICATED

  Scenario: A token that says nothing by itself is introspected
    When the opaque device registers
    Then the answer is 201 (200 in r2.2)
    And the answer has
      | regInfo.phoneNumber | {the opaque device's number} |
    When the opaque device sends DELETE {registrations}/{registrationId}
    Then the answer is 204

  Scenario: A token that is revoked
    Given the opaque device is registered
    And the opaque device has revoked its token
    When the opaque device sends GET {subscriptions} until the answer is 401
    Then the answer is 401 UNAUTHENTICATED

  Scenario: The authorization server changes its key
    Given the authorization server has changed its key
    And the device has a fresh token
    When the device registers
    Then the answer is 201 (200 in r2.2)

  Scenario: A token that is bound to a key needs a proof
    Given the device has a token that is bound to a key
    When the device sends GET {subscriptions}
    Then the answer is 401 UNAUTHENTICATED
    And the answer's header WWW-Authenticate holds "DPoP"
    Given the next request, GET {subscriptions}, has a proof with no flaw
    When the device sends GET {subscriptions}
    Then the answer is 200

  Scenario Outline: A proof that proves nothing
    Given the device has a token that is bound to a key
    And the next request, GET {subscriptions}, has a proof with <flaw>
    When the device sends GET {subscriptions}
    Then the answer is 401 UNAUTHENTICATED
    And the answer's header WWW-Authenticate holds "DPoP"

    Examples:
      | flaw           |
      | another key    |
      | another method |
      | another path   |
      | another token  |
      | an old date    |

  Scenario: A proof counts once
    Given the device has a token that is bound to a key
    And the next request, GET {subscriptions}, has a proof with no flaw
    When the device sends GET {subscriptions}
    Then the answer is 200
    Given the proof is sent again
    When the device sends GET {subscriptions}
    Then the answer is 401 UNAUTHENTICATED

  Scenario: A token that is bound to a certificate needs that certificate
    Given the device has a token that is bound to its certificate
    When the device sends GET {subscriptions}
    Then the answer is 401 UNAUTHENTICATED
    Given the next request is sent with that certificate
    When the device sends GET {subscriptions}
    Then the answer is 200

  Scenario: A token is good for all three APIs
    Given the device is registered
    And the device is subscribed to session-status
    When the device is in a call
    And the device has a fresh token
    And the device hangs up
    Then the device has been told "Connected", "Terminated"

  Scenario: What a caller without a token learns
    Given the device is registered
    And the next request has no token
    When the device sends DELETE {registrations}/{registrationId}
    Then the answer is 401 UNAUTHENTICATED
    When the device sends PUT {registrations}/{registrationId}
    Then the answer is 204
