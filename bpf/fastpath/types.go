package fastpath

import "github.com/cilium/ebpf"

// What is in the maps; bpf/src/layout.h says what each field means.
type (
	Flow   = objectFlow
	Crypto = objectCrypto
	Key4   = objectKey4
	Key6   = objectKey6
	Port   = objectPort
	Node   = objectNode
	Egress = objectEgress
	Label  = objectLabel
	// Maps has a field for each map.
	Maps = objectMaps
)

// Layout of the maps. Maps of another layout are not understood.
const Layout = uint32(objectLayoutLAYOUT)

// Modes of a flow.
const (
	Free       = uint8(objectModeMODE_FREE)
	Relay      = uint8(objectModeMODE_RELAY)
	Protect    = uint8(objectModeMODE_PROTECT)
	Unprotect  = uint8(objectModeMODE_UNPROTECT)
	Transcrypt = uint8(objectModeMODE_TRANSCRYPT)
)

// Suites of a flow and of its keys.
const (
	CMSHA1 = uint32(objectSuiteSUITE_CM_SHA1)
	GCM    = uint32(objectSuiteSUITE_GCM)
)

// Causes are the names of the counters in the map of causes, by their index.
var Causes = [objectCauseCAUSES]string{
	objectCauseFORWARDED:     "forwarded",
	objectCauseUP_PAYLOAD:    "passed_payload_type",
	objectCauseUP_START:      "passed_start",
	objectCauseUP_CLOSED:     "passed_closed",
	objectCauseUP_SEQUENCE:   "passed_sequence_jump",
	objectCauseUP_CLOCK:      "passed_clock_jump",
	objectCauseUP_HEADER:     "passed_header",
	objectCauseUP_SIZE:       "passed_size",
	objectCauseUP_ROUTE:      "passed_no_route",
	objectCauseUP_FORWARDING: "passed_no_lookup",
	objectCauseDROP_AUTH:     "dropped_auth",
	objectCauseDROP_REPLAY:   "dropped_replay",
	objectCauseDROP_RESIZE:   "dropped_no_room",
	objectCauseDROP_AWAY:     "dropped_away",
}

// Closed is a word of a flow's window that takes no packet any more.
const Closed = ^uint64(0)

// Program is the name of the XDP program.
const Program = objectProgFastpath

// Spec of the programs and maps, with maps of one entry: the caller sets sizes.
func Spec() (*ebpf.CollectionSpec, error) { return loadObject() }
