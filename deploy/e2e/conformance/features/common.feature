Feature: Rules of all requests
  What holds for every operation, and the order in which a request is judged.

  Scenario Outline: The mark of a request comes back
    Given the next request has the header x-correlator "<mark>"
    When the device sends <method> <path>
    Then the answer is <answer>
    And the answer's header x-correlator is "<mark>"

    Examples:
      | mark                                 | method | path                     | answer                 |
      | b4333c46-49c0-4f62-80d7-f0ef930f1c46 | GET    | {subscriptions}          | 200                    |
      | a-b_c:d;e.f/g<h>i{}                  | GET    | {subscriptions}          | 200                    |
      | x                                    | GET    | {calls}/{uuid}           | 404 NOT_FOUND          |
      | x                                    | DELETE | {registrations}/{uuid}   | 404 NOT_FOUND          |
      | x                                    | PATCH  | {subscriptions}          | 405 METHOD_NOT_ALLOWED |
      | x                                    | GET    | /webrtc-registration/v9/sessions | 404 NOT_FOUND  |

  Scenario: The mark of a request comes back without a body, too
    Given the device is registered
    And the next request has the header x-correlator "mine"
    When the device sends PUT {registrations}/{registrationId}
    Then the answer is 204
    And the answer's header x-correlator is "mine"

  Scenario: The longest mark
    Given the next request has the header x-correlator with 256 letters
    When the device sends GET {subscriptions}
    Then the answer is 200

  Scenario: A mark that is too long
    Given the next request has the header x-correlator with 257 letters
    When the device sends GET {subscriptions}
    Then the answer is 400 INVALID_ARGUMENT

  Scenario Outline: A mark that is none
    Given the next request has the header x-correlator "<mark>"
    When the device sends <method> <path>
    Then the answer is 400 INVALID_ARGUMENT
    And the answer's header x-correlator is not "<mark>"

    Examples:
      | mark   | method | path                   |
      | a b    | GET    | {subscriptions}        |
      | a,b    | GET    | {calls}/{uuid}         |
      | ü      | DELETE | {registrations}/{uuid} |
      | a=b    | POST   | {registrations}        |

  Scenario: Two marks are none
    Given the next request has the header x-correlator "a"
    And the next request has the header x-correlator "b"
    When the device sends GET {subscriptions}
    Then the answer is 400 INVALID_ARGUMENT

  Scenario: A request without a mark gets one
    Given the next request has the header x-correlator ""
    When the device sends GET {subscriptions}
    Then the answer is 200

  Scenario Outline: An operation needs a token
    Given the next request has no token
    When the device sends <method> <path>
    Then the answer is 401 UNAUTHENTICATED
    And the answer's header WWW-Authenticate holds "Bearer"

    Examples:
      | method | path                   |
      | POST   | {registrations}        |
      | PUT    | {registrations}/{uuid} |
      | DELETE | {registrations}/{uuid} |
      | POST   | {calls}                |
      | GET    | {calls}/{uuid}         |
      | PUT    | {calls}/{uuid}/status  |
      | DELETE | {calls}/{uuid}         |
      | POST   | {subscriptions}        |
      | GET    | {subscriptions}        |
      | GET    | {subscriptions}/{uuid} |
      | DELETE | {subscriptions}/{uuid} |

    @r31 @main
    Examples: newer operations
      | method | path                             |
      | GET    | {registrations}?deviceId={uuid}  |
      | GET    | {registrations}/{uuid}           |
      | PUT    | {subscriptions}/{uuid}           |

  Scenario Outline: An operation needs its scope
    Given the token of the device lacks the scope <scope>
    When the device sends <method> <path>
    Then the answer is 403 PERMISSION_DENIED

    Examples:
      | method | path                   | scope                               |
      | POST   | {registrations}        | webrtc-registration:sessions:create |
      | PUT    | {registrations}/{uuid} | webrtc-registration:sessions:write  |
      | DELETE | {registrations}/{uuid} | webrtc-registration:sessions:delete |
      | POST   | {calls}                | webrtc-call-handling:sessions:create |
      | GET    | {calls}/{uuid}         | webrtc-call-handling:sessions:read   |
      | PUT    | {calls}/{uuid}/status  | webrtc-call-handling:sessions:write  |
      | DELETE | {calls}/{uuid}         | webrtc-call-handling:sessions:delete |
      | GET    | {subscriptions}        | {scope}:read                        |
      | GET    | {subscriptions}/{uuid} | {scope}:read                        |
      | DELETE | {subscriptions}/{uuid} | {scope}:delete                      |

    @r31 @main
    Examples: newer operations
      | method | path                            | scope                             |
      | GET    | {registrations}?deviceId={uuid} | webrtc-registration:sessions:read |
      | GET    | {registrations}/{uuid}          | webrtc-registration:sessions:read |
      | PUT    | {subscriptions}/{uuid}          | {scope}:update                    |

  Scenario: A subscription needs one of the scopes to create any
    Given the token of the device has only the scopes {scope}:read, {scope}:delete
    When the device sends POST {subscriptions}
    Then the answer is 403 PERMISSION_DENIED

  @r31
  Scenario: The scopes of another generation do not count
    Given the token of the device has only the scopes webrtc-events:read, webrtc-events:delete
    When the device sends GET {subscriptions}
    Then the answer is 403 PERMISSION_DENIED

  @r22 @main
  Scenario: The scopes of a newer generation do not count
    Given the token of the device has only the scopes webrtc-events-subscriptions:read
    When the device sends GET {subscriptions}
    Then the answer is 403 PERMISSION_DENIED

  Scenario Outline: A path without an id
    When the device sends <method> <path>
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | method | path                     |
      | PUT    | {registrations}          |
      | PUT    | {registrations}/         |
      | DELETE | {registrations}          |
      | DELETE | {registrations}/         |
      | GET    | {calls}                  |
      | GET    | {calls}/                 |
      | DELETE | {calls}                  |
      | DELETE | {calls}/                 |
      | PUT    | {calls}/status           |
      | PUT    | {calls}//status          |
      | GET    | {subscriptions}/         |
      | DELETE | {subscriptions}/         |

    @r31 @main
    Examples: newer operations
      | method | path                     |
      | GET    | {registrations}/         |
      | PUT    | {subscriptions}/         |

  Scenario Outline: A path that does not exist
    When the device sends <method> <path>
    Then the answer is 404 NOT_FOUND

    Examples:
      | method | path                                |
      | GET    | /webrtc-registration                |
      | GET    | /webrtc-registration/v0.4           |
      | GET    | /webrtc-registration/v1/sessions    |
      | GET    | /webrtc-call-handling/v9.9/sessions |
      | POST   | /webrtc-events/v0.9/subscriptions   |
      | GET    | {calls}/{uuid}/media                |
      | GET    | {subscriptions}/{uuid}/events       |
      | GET    | /webrtc-unknown/v0.4/sessions       |
      | GET    | /openapi/webrtc-registration/v9     |

  Scenario Outline: A method that a path does not take
    When the device sends <method> <path>
    Then the answer is 405 METHOD_NOT_ALLOWED

    Examples:
      | method | path                   |
      | PATCH  | {registrations}/{uuid} |
      | POST   | {registrations}/{uuid} |
      | POST   | {calls}/{uuid}         |
      | PUT    | {calls}/{uuid}         |
      | GET    | {calls}/{uuid}/status  |
      | POST   | {calls}/{uuid}/status  |
      | POST   | {subscriptions}/{uuid} |
      | PATCH  | {subscriptions}        |

  Scenario: The methods that a path takes are told
    When the device sends PATCH {calls}/{uuid}
    Then the answer is 405 METHOD_NOT_ALLOWED
    And the answer's header Allow holds "GET"
    And the answer's header Allow holds "DELETE"

  Scenario Outline: Another content type
    Given the next request has the header Content-Type "<type>"
    When the device sends POST {registrations} with
      """
      {"deviceId": "{deviceId}"}
      """
    Then the answer is <answer>

    Examples:
      | type                               | answer                     |
      | text/plain                         | 415 UNSUPPORTED_MEDIA_TYPE |
      | application/xml                    | 415 UNSUPPORTED_MEDIA_TYPE |
      | application/json; charset=utf-16   | 415 UNSUPPORTED_MEDIA_TYPE |
      | application/x-www-form-urlencoded  | 415 UNSUPPORTED_MEDIA_TYPE |
      | json                               | 415 UNSUPPORTED_MEDIA_TYPE |
      | application/json; charset=utf-8    | 201 (200 in r2.2)          |
      | Application/JSON;charset=UTF-8     | 201 (200 in r2.2)          |

  Scenario: No content type
    Given the next request has no header Content-Type
    When the device sends POST {registrations} with
      """
      {"deviceId": "{deviceId}"}
      """
    Then the answer is 415 UNSUPPORTED_MEDIA_TYPE

  Scenario: An encoded body
    Given the next request has the header Content-Encoding "gzip"
    When the device registers
    Then the answer is 415 UNSUPPORTED_MEDIA_TYPE

  Scenario Outline: What the caller can read
    Given the next request has the header Accept "<accept>"
    When the device sends GET {subscriptions}
    Then the answer is <answer>

    Examples:
      | accept                         | answer             |
      | application/json               | 200                |
      | */*                            | 200                |
      | application/*;q=0.5, text/html | 200                |
      | text/html                      | 406 NOT_ACCEPTABLE |
      | application/json;q=0, */*      | 406 NOT_ACCEPTABLE |

  Scenario Outline: A body that is too large
    Given the next request has the header registrationId "{uuid}"
    When the device sends <method> <path> with 262145 bytes
    Then the answer is 413 PAYLOAD_TOO_LARGE

    Examples:
      | method | path                  |
      | POST   | {registrations}       |
      | POST   | {calls}               |
      | PUT    | {calls}/{uuid}/status |
      | POST   | {subscriptions}       |

  Scenario: A body that is nested too deep
    When the device sends POST {subscriptions} with objects 33 deep
    Then the answer is 400 INVALID_ARGUMENT

  Scenario Outline: A body that is no JSON object
    When the device sends POST <path> with
      """
      <body>
      """
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | path            | body                                                   |
      | {registrations} | {"deviceId": "{uuid}"                                  |
      | {registrations} | {"deviceId": "{uuid}"} {}                              |
      | {registrations} | {"deviceId": "{uuid}"} x                               |
      | {registrations} | {"deviceId": "{uuid}",}                                |
      | {registrations} | {"deviceId": "{uuid}", "deviceId": "{uuid}"}           |
      | {registrations} | {"deviceId": "{uuid}", "device\\u0049d": "{uuid}"}     |
      | {registrations} | [{"deviceId": "{uuid}"}]                               |
      | {registrations} | "{uuid}"                                               |
      | {registrations} | null                                                   |
      | {registrations} | 7                                                      |
      | {registrations} | deviceId={uuid}                                        |
      | {registrations} | {'deviceId': '{uuid}'}                                 |
      | {registrations} | {}                                                     |
      | {calls}         | {}                                                     |
      | {calls}         | []                                                     |
      | {subscriptions} | {}                                                     |
      | {subscriptions} | {"config": {"subscriptionDetail": {"deviceId": "{uuid}", "deviceId": "{uuid}"}}} |

  Scenario Outline: A body that is missing
    Given the device is registered
    And the next request has the header registrationId "{registrationId}"
    When the device sends POST <path>
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | path            |
      | {registrations} |
      | {calls}         |
      | {subscriptions} |

  @r31
  Scenario Outline: A property that nobody knows
    When the device registers with
      | <property> | <value> |
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | property       | value       |
      | colour         | "green"     |
      | DeviceId       | "{uuid}"    |
      | regInfo        | {}          |
      | expiresAt      | "{in 1h}"   |
      | registrationId | "{uuid}"    |

  Scenario Outline: Requests are judged in one order: path and method, token, mark, scope, form
    Given <first>
    And <second>
    When the device sends <method> <path> with
      """
      <body>
      """
    Then the answer is <answer>

    Examples:
      | first                                                | second                                                   | method | path                   | body   | answer                 |
      | the next request has no token                        | the next request has the header x-correlator "a b"       | PATCH  | {calls}/{uuid}         | {      | 405 METHOD_NOT_ALLOWED |
      | the next request has no token                        | the next request has the header x-correlator "a b"       | GET    | /webrtc-registration/x | {      | 404 NOT_FOUND          |
      | the next request has no token                        | the next request has the header x-correlator "a b"       | POST   | {registrations}        | {      | 401 UNAUTHENTICATED    |
      | the next request has no token                        | the next request has the header x-correlator "a"         | PUT    | {registrations}/       | {      | 401 UNAUTHENTICATED    |
      | the next request has no token                        | the next request has the header Content-Type "text/html" | POST   | {calls}                | {      | 401 UNAUTHENTICATED    |
      | the token of the device has only the scope {scope}:read | the next request has the header x-correlator "a b"    | POST   | {registrations}        | {      | 400 INVALID_ARGUMENT   |
      | the token of the device has only the scope {scope}:read | the next request has the header x-correlator "a"      | POST   | {registrations}        | {      | 403 PERMISSION_DENIED  |
      | the token of the device has only the scope {scope}:read | the next request has the header x-correlator "a"      | PUT    | {registrations}/       | {      | 403 PERMISSION_DENIED  |
      | the token of the device has only the scope {scope}:read | the next request has the header Content-Type "text/html" | POST | {calls}               | {      | 403 PERMISSION_DENIED  |
      | the next request has the header x-correlator "a"     | the next request has the header Accept "text/html"       | PUT    | {registrations}/       | {}     | 400 INVALID_ARGUMENT   |
      | the next request has the header x-correlator "a"     | the next request has the header Accept "*/*"             | PUT    | {calls}/{uuid}/status  | {"status": 7} | 400 INVALID_ARGUMENT |
      | the next request has the header x-correlator "a"     | the next request has the header Accept "*/*"             | PUT    | {calls}/{uuid}/status  | {"status": "Hold"} | 404 NOT_FOUND   |

  Scenario Outline: A page of another origin may use the APIs
    Given the next request has the header Origin "https://app.example"
    And the next request has the header Access-Control-Request-Method "<method>"
    And the next request has no token
    When the device sends OPTIONS <path>
    Then the answer is 204
    And the answer's header Access-Control-Allow-Origin is "*"
    And the answer's header Access-Control-Allow-Methods holds "<method>"
    And the answer's header Access-Control-Allow-Headers holds "<header>"
    And the answer's header x-correlator is not ""

    Examples:
      | method | path                   | header         |
      | GET    | {calls}/{uuid}         | Authorization  |
      | POST   | {calls}                | registrationId |
      | PUT    | {calls}/{uuid}/status  | Content-Type   |
      | DELETE | {registrations}/{uuid} | x-correlator   |
      | POST   | {subscriptions}        | DPoP           |
      | GET    | {subscriptions}        | Last-Event-ID  |

  Scenario Outline: A page of another origin can read what it needs
    Given the next request has the header Origin "https://app.example"
    When the device sends GET {calls}/{uuid}
    Then the answer is 404 NOT_FOUND
    And the answer's header Access-Control-Allow-Origin is "*"
    And the answer's header Access-Control-Expose-Headers holds "<header>"
    And the answer has no header Access-Control-Allow-Credentials

    Examples:
      | header           |
      | x-correlator     |
      | Retry-After      |
      | WWW-Authenticate |
      | DPoP-Nonce       |

  @r31 @on-strict
  Scenario: Only pages of listed origins where a list is configured
    Given the next request has the header Origin "https://app.example"
    And the next request has no token
    When the device sends GET {subscriptions}
    Then the answer is 401 UNAUTHENTICATED
    And the answer's header Access-Control-Allow-Origin is "https://app.example"
    Given the next request has the header Origin "https://evil.example"
    And the next request has no token
    When the device sends GET {subscriptions}
    Then the answer is 401 UNAUTHENTICATED
    And the answer has no header Access-Control-Allow-Origin

  @r31 @on-strict
  Scenario: An application that is too fast
    Given the server application is registered
    When the server application sends GET {subscriptions}
    Then the answer is 200
    When the server application sends POST {registrations} with 2049 bytes
    Then the answer is 413 PAYLOAD_TOO_LARGE
    When the server application sends GET {subscriptions}
    Then the answer is 429 TOO_MANY_REQUESTS
    And the answer's header Retry-After is not ""

  @r31 @on-strict
  Scenario Outline: A generation that is switched off
    Given the next request has no token
    When the device sends <method> <path>
    Then the answer is 404 NOT_FOUND

    Examples:
      | method | path                                            |
      | POST   | /webrtc-registration/v0.3/sessions              |
      | POST   | /webrtc-call-handling/v0.3/sessions             |
      | GET    | /webrtc-events/v0.2/subscriptions               |
      | GET    | /webrtc-events/v0.3/subscriptions               |
      | GET    | /webrtc-events/vwip/subscriptions               |
      | GET    | /webrtc-events-suscription/v0.3/subscriptions   |
      | POST   | /webrtc-registration/v0.4/subscriptions         |

  Scenario Outline: The documents of the APIs can be read by everybody
    Given the next request has no token
    When the device sends GET <path>
    Then the answer is 200

    Examples:
      | path                                            |
      | /openapi/                                       |
      | /openapi/index.json                             |
      | /openapi/webrtc-registration/v0.4               |
      | /openapi/webrtc-registration/v0.4.yaml          |
      | /openapi/webrtc-registration/v0.3.json          |
      | /openapi/webrtc-call-handling/v0.4.json         |
      | /openapi/webrtc-call-handling/v0.3.json         |
      | /openapi/webrtc-events-subscriptions/v0.3.json  |
      | /openapi/webrtc-events/v0.2.json                |
      | /openapi/webrtc-events/v0.3.json                |
      | /openapi/webrtc-events/vwip.yaml                |
