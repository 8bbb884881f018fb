// Package store keeps everything that outlives a process, in PostgreSQL or, as
// the embedded default, in SQLite. It implements the ports Store, Outbox and
// RelayStore of package gateway with one SQL tree and one generated package
// (queries) for both engines, and one conformance suite in its tests.
//
// Invariants:
//   - Every row belongs to a tenant, and the tenant leads every unique index.
//   - What a thing holds is one sealed blob with a version (see seal.go): media
//     keys, ICE passwords, SIP state and sink tokens never rest in the clear.
//     Columns beside the blob exist only to be looked up by.
//   - Update loses no other transaction's work: one that changes what was changed
//     since it read it is run again from its start. What it only adds to, it
//     waits for.
//   - Leases and delays are measured by the database's clock, never by a
//     process's. Those of a process that has died are freed by the others, or by
//     the next one, within seconds (see lease.go).
//
// The outbox is one queue per subscription, of which only the head can be
// claimed. next_attempt_at of an outbox row says which state it is in:
//
//	        Enqueue
//	  ┌────────┴────────┐
//	  ▼ queue not empty ▼ queue empty
//	behind (0) ──────► due (≤ now) ──Claim──► leased (now + lease)
//	    the row ahead    ▲  ▲                   │    │      │
//	    was removed      │  └──lease ran out────┘    │    Done, Discard
//	                     └──── after a delay ──Retry─┘      │
//	                                                     removed
//
// Whoever adds to a queue or takes from it first updates its row in
// outbox_queues. That lock makes the choice between behind and due exact, and
// the order of a queue the order in which transactions committed.
package store
