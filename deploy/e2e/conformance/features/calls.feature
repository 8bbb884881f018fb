Feature: Calls that a device makes
  A session is created at once; its offer goes to the telephone network in the
  network's own form.

  Background:
    Given the device is registered

  Scenario: A call is placed
    When the device calls with
      | originatorName | "Ada"   |
      | receiverName   | "Grace" |
    Then the answer is 201
    And the answer has
      | mediaSessionId    | a UUID       |
      | originatorAddress | tel:{number} |
      | receiverAddress   | tel:{far}    |
      | originatorName    | Ada          |
      | receiverName      | Grace        |
      | status            | Initial      |
      | answer            | absent       |
    And the device has the offer byte by byte in the answer
    And the call arrives at the far end
    And the INVITE came from "{number}"
    And the INVITE's header P-Asserted-Identity holds "{number}"
    And the INVITE's body holds "RTP/AVP"
    And the INVITE's body does not hold "ice-ufrag"
    When the device sends GET {calls}/{sessionId}
    Then the answer is 200
    And the answer has
      | mediaSessionId    | {sessionId}  |
      | originatorAddress | tel:{number} |
      | receiverAddress   | tel:{far}    |
    And the device has the offer byte by byte in the answer

  @r31 @main
  Scenario: A call says of which kind it is
    When the device calls with
      | callType | "REGULAR" |
    Then the answer is 201
    And the answer has
      | callType | REGULAR |

  @r22
  Scenario: r2.2 has names for the call and the request
    When the device calls with
      | clientCorrelator | "mine"     |
      | status           | "Initial"  |
      | sequenceNumber   | 9          |
      | serverCorrelator | "yours"    |
    Then the answer is 201
    And the answer has
      | clientCorrelator | mine   |
      | serverCorrelator | a UUID |
      | callObjectRef    | present |
      | callType         | absent |
      | locationDetails  | absent |
      | offerRequired    | absent |
      | sequenceNumber   | absent |

  @r31 @main
  Scenario Outline: A call that lacks what it needs, or has what it must not
    When the device calls with
      | <property> | <value> |
    Then the answer is 400 INVALID_ARGUMENT
    And no call has arrived at the far end

    Examples:
      | property          | value                                                              |
      | originatorAddress | removed                                                            |
      | receiverAddress   | removed                                                            |
      | offer             | removed                                                            |
      | offer             | {}                                                                 |
      | offer             | "v=0"                                                              |
      | offer             | {"sdp":""}                                                         |
      | offer             | {"sdp":"hello"}                                                    |
      | offer             | {"sdp":7}                                                          |
      | offer             | {"sdp":{offer},"type":"offer"}                                     |
      | offer             | {"sdp":"{text 65537}"}                                             |
      | answer            | {"sdp":{offer}}                                                    |
      | status            | "Initial"                                                          |
      | mediaSessionId    | "{uuid}"                                                           |
      | callType          | "URGENT"                                                           |
      | callType          | ""                                                                 |
      | originatorName    | "{text 257}"                                                       |
      | receiverName      | "{text 257}"                                                       |
      | receiverName      | "Grace\\r\\nX-Evil: 1"                                             |
      | originatorName    | "Ada\\nX-Evil: 1"                                                  |
      | colour            | "green"                                                            |
      | offer.colour      | "green"                                                            |
      | locationDetails   | {"colour":"green"}                                                 |
      | locationDetails   | {"shape":"Square"}                                                 |
      | locationDetails   | {"shape":"Circle","coordinates":{"latitude":1,"longitude":2}}      |
      | locationDetails   | {"shape":"Ellipsoid","coordinates":{"latitude":1,"longitude":2,"radius":3}} |
      | locationDetails   | {"coordinates":{"latitude":91,"longitude":2,"radius":3}}           |
      | locationDetails   | {"coordinates":{"latitude":1,"longitude":181,"radius":3}}          |
      | locationDetails   | {"method":"Guess"}                                                 |
      | locationDetails   | {"confidence":{"pdf":"normal","value":101}}                        |
      | locationDetails   | {"confidence":{"pdf":"exact","value":1}}                           |
      | locationDetails   | {"timestamp":"2026-01-01T00:00:00"}                                |

  Scenario Outline: An offer that no browser makes
    When the device calls with
      | offer | {"sdp":"<sdp>"} |
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | sdp                                                                                                                            |
      | v=0\\r\\n                                                                                                                      |
      | v=0\\r\\no=- 1 1 IN IP4 127.0.0.1\\r\\ns=-\\r\\nt=0 0\\r\\n                                                                   |
      | v=0\\r\\no=- 1 1 IN IP4 127.0.0.1\\r\\ns=-\\r\\nc=IN IP4 127.0.0.1\\r\\nt=0 0\\r\\nm=audio 4000 RTP/AVP 0\\r\\n               |
      | v=0\\r\\no=- 1 1 IN IP4 127.0.0.1\\r\\ns=-\\r\\nc=IN IP4 127.0.0.1\\r\\nt=0 0\\r\\nm=audio 4000 RTP/SAVPF 0\\r\\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5\\r\\n |
      | v=0\\r\\no=- 1 1 IN IP4 127.0.0.1\\r\\ns=-\\r\\nt=0 0\\r\\nm=video 9 UDP/TLS/RTP/SAVPF 96\\r\\nc=IN IP4 0.0.0.0\\r\\na=mid:0\\r\\na=rtpmap:96 VP8/90000\\r\\n |

  @r31 @main
  Scenario Outline: Addresses that may be called
    When the device calls with
      | receiverAddress | "<address>" |
    Then the answer is 201
    And the answer has
      | receiverAddress | <shown> |

    Examples:
      | address                                                      | shown                                                        |
      | tel:+17771                                                   | tel:+17771                                                   |
      | tel:+177700000000000                                         | tel:+177700000000000                                         |
      | tel:100;phone-context=+1777                                  | tel:100;phone-context=+1777                                  |
      | tel:*21#;phone-context=example.com                           | tel:*21#;phone-context=example.com                           |
      | sip:grace@example.com                                        | sip:grace@example.com                                        |
      | sip:100;phone-context=example.com@example.com;user=phone     | sip:100;phone-context=example.com@example.com;user=phone     |

  Scenario Outline: Addresses that are none
    When the device calls with
      | receiverAddress | <address> |
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | address                                  |
      | ""                                       |
      | 7                                        |
      | null                                     |
      | "+17770000000"                           |
      | "tel:17770000000"                        |
      | "tel:+1777"                              |
      | "tel:+1777000000000000"                  |
      | "tel:+1777-000-0000"                     |
      | "TEL +17770000000"                       |
      | "sip:grace"                              |
      | "sip:@example.com"                       |
      | "sip:grace@"                             |
      | "sip:gr ace@example.com"                 |
      | "sip:grace@example.com\\r\\nX-Evil: 1"   |
      | "sip:grace@example.com>;evil"            |
      | "tel:+17770000000\\n"                    |
      | "mailto:grace@example.com"               |
      | "sip:anonymous@anonymous.invalid"        |
      | "sip:{text 256}@example.com"             |
      | "urn:service:counseling"                 |

  @r22
  Scenario Outline: Addresses that are too wide for r2.2
    When the device calls with
      | receiverAddress | <address> |
    Then the answer is 400 INVALID_ARGUMENT

    Examples:
      | address                                                    |
      | "tel:100;phone-context=+1777"                              |
      | "sip:100;phone-context=example.com@example.com;user=phone" |
      | "urn:service:sos"                                          |
      | removed                                                    |

  @r22
  Scenario: r2.2 takes numbers that begin with 0
    When the device calls with
      | receiverAddress | "tel:+01234567" |
    Then the answer is 201
    And the answer has
      | receiverAddress | tel:+01234567 |

  Scenario Outline: The caller must be the subscriber
    When the device calls with
      | originatorAddress | "<address>" |
    Then the answer is 403 INVALID_TOKEN_CONTEXT

    Examples:
      | address                       |
      | tel:{far}                     |
      | tel:{the stranger's number}   |
      | sip:ada@example.com           |

  Scenario: A caller may stay anonymous
    When the device calls with
      | originatorAddress | "sip:anonymous@anonymous.invalid" |
    Then the answer is 201
    And the answer has
      | originatorAddress | sip:anonymous@anonymous.invalid |
    And the call arrives at the far end
    And the INVITE's header From holds "anonymous.invalid"
    And the INVITE's header Privacy holds "id"
    And the INVITE's header P-Asserted-Identity holds "{number}"

  Scenario: The registration must be named
    When the device sends POST {calls} with
      """
      {"originatorAddress": "tel:{number}", "receiverAddress": "tel:{far}", "offer": {"sdp": {offer}}}
      """
    Then the answer is 400 INVALID_ARGUMENT

  Scenario Outline: A registration that the caller cannot use
    Given the stranger is registered
    And the other application is registered
    And the next request has the header registrationId "<id>"
    When the device calls
    Then the answer is <answer>

    Examples:
      | id                                     | answer                    |
      | {uuid}                                 | 403 INVALID_TOKEN_CONTEXT |
      | anything                               | 403 INVALID_TOKEN_CONTEXT |
      | {the stranger's registrationId}        | 403 INVALID_TOKEN_CONTEXT |
      | {the other application's registrationId} | 403 INVALID_TOKEN_CONTEXT |
      | {text 257}                             | 400 INVALID_ARGUMENT      |

  Scenario: An expired registration cannot be used
    Given the second device is registered with
      | registrationExpireTime | "{in 1200ms}" |
    And the registration of the second device is gone
    When the second device calls
    Then the answer is 403 INVALID_TOKEN_CONTEXT

  @r31 @main
  Scenario Outline: Emergency calls where they are not supported
    When the device calls with
      | <property> | <value> |
    Then the answer is 501 CALLTYPE_EMERGENCY_NOT_SUPPORTED

    Examples:
      | property        | value                   |
      | callType        | "EMERGENCY"             |
      | receiverAddress | "urn:service:sos"       |
      | receiverAddress | "urn:service:sos.fire"  |

  @r31 @main @on-hasty
  Scenario: Emergency calls where they are supported
    When the device calls with
      | callType        | "EMERGENCY"                                                                                                              |
      | receiverAddress | "urn:service:sos"                                                                                                        |
      | locationDetails | {"shape":"Circle","coordinates":{"latitude":52.5,"longitude":13.4,"radius":30},"method":"GPS","confidence":{"pdf":"normal","value":95},"timestamp":"2026-06-30T12:00:00+02:00"} |
    Then the answer is 201
    And the answer has
      | callType                             | EMERGENCY                |
      | receiverAddress                      | urn:service:sos          |
      | locationDetails.shape                | Circle                   |
      | locationDetails.coordinates.latitude | 52.5                     |
      | locationDetails.coordinates.radius   | 30                       |
      | locationDetails.method               | GPS                      |
      | locationDetails.confidence.value     | 95                       |
      | locationDetails.timestamp            | 2026-06-30T10:00:00.000Z |

  @r31 @main @on-hasty
  Scenario: An emergency call needs no location
    When the device calls with
      | callType | "EMERGENCY" |
    Then the answer is 201

  @r31 @main
  Scenario: A call may say where the caller is
    When the device calls with
      | locationDetails | {"shape":"Ellipsoid","coordinates":{"latitude":1,"longitude":2,"zAxis":3,"semiMajorAxis":4,"semiMinorAxis":5,"verticalAxis":6,"orientation":7}} |
    Then the answer is 201
    And the answer has
      | locationDetails.shape                     | Ellipsoid |
      | locationDetails.coordinates.semiMinorAxis | 5         |
      | locationDetails.coordinates.orientation   | 7         |

  @r31 @main
  Scenario: What older applications send is ignored
    When the device calls with
      | clientCorrelator | "mine" |
    Then the answer is 201
    And the answer has
      | clientCorrelator | absent |
