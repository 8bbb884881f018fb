package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Errors of a Store that callers decide on.
var (
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a row with this key exists, or it changed since it was read.
	ErrConflict = errors.New("conflict")
)

// Reader finds what is stored. A method that finds one thing answers ErrNotFound
// when there is none. Lists are in order of creation.
type Reader interface {
	Registration(ctx context.Context, tenant, id string) (call.Registration, error)
	// RegistrationsByNumber lists the unexpired registrations of a number.
	RegistrationsByNumber(ctx context.Context, tenant string, number call.Number, now time.Time) ([]call.Registration, error)
	// RegistrationsByDevice lists the unexpired registrations of a device that
	// the owner may use; an empty Subject stands for every number.
	RegistrationsByDevice(ctx context.Context, owner call.Owner, deviceID string, now time.Time) ([]call.Registration, error)
	// RegistrationsEnding lists up to limit registrations whose ExpiresAt is not
	// after t, earliest first.
	RegistrationsEnding(ctx context.Context, t time.Time, limit int) ([]call.Registration, error)
	// RegistrationsAlive lists all that are unexpired, at start for instance.
	RegistrationsAlive(ctx context.Context, now time.Time) ([]call.Registration, error)
	CountRegistrations(ctx context.Context, now time.Time) (int, error)

	Session(ctx context.Context, tenant, id string) (call.MediaSession, error)
	SessionsByCall(ctx context.Context, callID string) ([]call.MediaSession, error)
	// LiveSessionsByRegistration lists the sessions that are not over.
	LiveSessionsByRegistration(ctx context.Context, registrationID string) ([]call.MediaSession, error)
	// SessionByCorrelator finds a live session by the app's own mark (r2.2).
	SessionByCorrelator(ctx context.Context, owner call.Owner, registrationID, correlator string) (call.MediaSession, error)

	Call(ctx context.Context, id string) (Call, error)
	// Calls lists all calls, at start for instance.
	Calls(ctx context.Context) ([]Call, error)
	// CallByDialog finds a call by the identifiers of its SIP dialog.
	CallByDialog(ctx context.Context, sipCallID, localTag string) (Call, error)

	Subscription(ctx context.Context, tenant, id string) (call.Subscription, error)
	// Subscriptions lists the active subscriptions that the owner may use.
	Subscriptions(ctx context.Context, owner call.Owner) ([]call.Subscription, error)
	// SubscriptionsFor lists the active subscriptions of the application that
	// could want an event of this device: by device, or without one.
	SubscriptionsFor(ctx context.Context, owner call.Owner, deviceID string) ([]call.Subscription, error)
	// SubscriptionsByRegistration lists the active ones bound to a registration.
	SubscriptionsByRegistration(ctx context.Context, registrationID string) ([]call.Subscription, error)
	// SubscriptionsEnding lists up to limit active subscriptions that end by
	// themselves (Subscription.EndsAt) not after t, earliest first.
	SubscriptionsEnding(ctx context.Context, t time.Time, limit int) ([]call.Subscription, error)
	// NextEnd is the earliest time at which a registration or an active
	// subscription ends by itself; zero when none does.
	NextEnd(ctx context.Context) (time.Time, error)
}

// Tx is one transaction. Insertions answer ErrConflict for a key that exists,
// updates ErrNotFound for one that does not.
type Tx interface {
	Reader

	// InsertRegistration refuses a second one of the same tenant, device and
	// number with ErrConflict.
	InsertRegistration(ctx context.Context, r call.Registration) error
	UpdateRegistration(ctx context.Context, r call.Registration) error
	DeleteRegistration(ctx context.Context, tenant, id string) error

	InsertSession(ctx context.Context, m call.MediaSession) error
	// UpdateSession stores m under the next Version, which it sets in m; it
	// answers ErrConflict when the stored version is not m.Version.
	UpdateSession(ctx context.Context, m *call.MediaSession) error
	// DeleteSessionsEndedBefore forgets sessions that are long over.
	DeleteSessionsEndedBefore(ctx context.Context, t time.Time) error

	InsertCall(ctx context.Context, c Call) error
	UpdateCall(ctx context.Context, c Call) error
	DeleteCall(ctx context.Context, id string) error

	InsertSubscription(ctx context.Context, s call.Subscription) error
	UpdateSubscription(ctx context.Context, s call.Subscription) error
	// DeleteSubscriptionsEndedBefore forgets ended subscriptions whose
	// deliveries are done.
	DeleteSubscriptionsEndedBefore(ctx context.Context, t time.Time) error

	// Enqueue puts an event at the end of its subscription's queue.
	Enqueue(ctx context.Context, subscriptionID string, e call.Event) error

	// LockOwner makes transactions that count before they insert wait for each
	// other, until the end of this one.
	LockOwner(ctx context.Context, owner call.Owner) error
}

// Store keeps everything that outlives a process. Times are kept to the
// microsecond.
type Store interface {
	Reader
	// Update runs fn in one transaction that is committed when fn answers nil.
	// fn may run more than once, so it must have no effect but on its Tx and on
	// variables that it sets anew each time.
	Update(ctx context.Context, fn func(Tx) error) error
	// NewEpoch answers a number higher than any it answered before: the name of
	// a process in the fencing of media sessions.
	NewEpoch(ctx context.Context) (uint64, error)
	// Ping answers an error when the store cannot serve.
	Ping(ctx context.Context) error
}

// SIPAccount is a number's account at the registrar of a trunk, kept in the store
// beside those of the configuration, so that accounts come and go while the gateway
// runs.
type SIPAccount struct {
	Tenant string
	Trunk  string
	Number call.Number
	// Username and Password of digest authentication; both non-empty.
	Username string
	Password string
}

// SIPAccounts is the store as the SIP network sees it.
type SIPAccounts interface {
	// SIPAccounts lists all accounts.
	SIPAccounts(ctx context.Context) ([]SIPAccount, error)
	// SIPAccountsOf lists those of a number, one for each trunk that has one.
	SIPAccountsOf(ctx context.Context, tenant string, number call.Number) ([]SIPAccount, error)
}

// Delivery is an event on its way to a sink.
type Delivery struct {
	// ID names the outbox row.
	ID           string
	Subscription call.Subscription
	Event        call.Event
	// Attempts made before this one.
	Attempts int
	// Since is when the event was recorded.
	Since time.Time
}

// Outbox is the queue of recorded events, as the Notification Service sees it.
// Only the oldest event of a subscription can be leased, which keeps the order.
type Outbox interface {
	// Receive has what this process records, or lets through by Done, leased to
	// it from the start and handed to take once it is stored; take must not wait
	// for anything. Until then, and with a nil take, such events are left to be
	// claimed.
	Receive(lease time.Duration, take func(Delivery))
	// Claim leases up to limit deliveries that are due. A lease that runs out
	// makes a delivery claimable again.
	Claim(ctx context.Context, lease time.Duration, limit int) ([]Delivery, error)
	// Done removes a delivered or given-up event.
	Done(ctx context.Context, id string) error
	// Retry makes it due again after a delay; with none, whoever can deliver it
	// is woken.
	Retry(ctx context.Context, id string, after time.Duration) error
	// Discard drops all that is queued for a subscription.
	Discard(ctx context.Context, subscriptionID string) error
	// NextDue is how long until the next delivery is due; ok is false when the
	// queue is empty.
	NextDue(ctx context.Context) (wait time.Duration, ok bool, err error)
	// Wake is signalled when there may be something to claim, by any process.
	Wake() <-chan struct{}
}
