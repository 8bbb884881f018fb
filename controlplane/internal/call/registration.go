package call

import "time"

// Registration binds a device to a subscriber's number for a time.
type Registration struct {
	// ID is a UUID made by the gateway.
	ID string
	// Owner.Subject is the registered number, also when the application
	// registered it without a subscriber's token.
	Owner Owner
	// DeviceID is made by the device and unique only together with the number.
	DeviceID  string
	CreatedAt time.Time
	ExpiresAt time.Time
}

// Number is the registered number.
func (r Registration) Number() Number { return r.Owner.Subject }

// Expired reports whether the registration has ended by itself at now.
func (r Registration) Expired(now time.Time) bool { return !now.Before(r.ExpiresAt) }

// Lifetimes bound how long a registration or subscription may live.
type Lifetimes struct {
	Min     time.Duration
	Default time.Duration
	Max     time.Duration
}

// Below says what becomes of a requested end that is too near.
type Below int

const (
	// RefuseBelow answers OUT_OF_RANGE (CAMARA r3.1).
	RefuseBelow Below = iota
	// DefaultOutside takes the default for anything outside the bounds (r2.2).
	DefaultOutside
)

// Expiry is when something ends that was asked for at now to end at requested
// (nil: no wish): capped at the maximum, exact within the bounds.
func (l Lifetimes) Expiry(now time.Time, requested *time.Time, below Below) (time.Time, error) {
	if requested == nil {
		return now.Add(l.Default), nil
	}
	life := requested.Sub(now)
	switch {
	case below == DefaultOutside && (life < l.Min || life > l.Max):
		return now.Add(l.Default), nil
	case life < l.Min:
		return time.Time{}, Errorf(OutOfRange, "the requested expiry is %s; it must be at least %s ahead", requested.UTC().Format(time.RFC3339), l.Min)
	case life > l.Max:
		return now.Add(l.Max), nil
	}
	return *requested, nil
}

// EndReason is why a registration or a subscription ended, as events tell it.
type EndReason string

// Reasons of registration-ends and subscription-ended events.
const (
	RegistrationExpired EndReason = "REGISTRATION_EXPIRED"
	NetworkTerminated   EndReason = "NETWORK_TERMINATED"
	SubscriptionExpired EndReason = "SUBSCRIPTION_EXPIRED"
	MaxEventsReached    EndReason = "MAX_EVENTS_REACHED"
	AccessTokenExpired  EndReason = "ACCESS_TOKEN_EXPIRED"
	SubscriptionDeleted EndReason = "SUBSCRIPTION_DELETED"
)
