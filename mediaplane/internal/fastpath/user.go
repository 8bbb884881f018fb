package fastpath

import "context"

// User takes no plan: every packet passes through user space. It needs no
// privilege and works everywhere.
type User struct{ reason string }

// NewUser makes the engine with the reason why there is no faster one.
func NewUser(reason string) User { return User{reason} }

// Name is "user".
func (User) Name() string { return "user" }

// Reason says why this engine was chosen.
func (u User) Reason() string { return u.reason }

// Start does nothing.
func (User) Start(context.Context) error { return nil }

// Close does nothing.
func (User) Close() error { return nil }

// Upsert refuses every plan.
func (u User) Upsert(Plan) (Reason, bool) { return Reason(u.reason), false }

// Remove has nothing to give back.
func (User) Remove(Key) (Position, bool) { return Position{}, false }

// Position has none.
func (User) Position(Key) (Position, bool) { return Position{}, false }

// Stats has nothing to tell.
func (User) Stats(func(Key, Position) bool) {}

// Adopted is empty.
func (User) Adopted() []Adopted { return nil }

// Causes has nothing to tell.
func (User) Causes(func(string, uint64) bool) {}
