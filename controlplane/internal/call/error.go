package call

import (
	"errors"
	"fmt"
)

// Code is the machine-readable reason of an Error, spelled as the CAMARA APIs
// spell it. The API adapters map it to an HTTP status in one place.
type Code string

// Codes of CAMARA Commonalities and of the WebRTC APIs.
const (
	InvalidArgument           Code = "INVALID_ARGUMENT"
	OutOfRange                Code = "OUT_OF_RANGE"
	PermissionDenied          Code = "PERMISSION_DENIED"
	InvalidTokenContext       Code = "INVALID_TOKEN_CONTEXT"
	SubscriptionMismatch      Code = "SUBSCRIPTION_MISMATCH"
	MaxRegistrationsPerUser   Code = "MAX_REGISTRATION_PER_USER"
	MaxRegistrationsPerMSISDN Code = "MAX_REGISTRATION_PER_MSISDN"
	MaxDevicesPerUser         Code = "MAX_DEVICES_PER_USER"
	NotFound                  Code = "NOT_FOUND"
	AlreadyExists             Code = "ALREADY_EXISTS"
	IncompatibleState         Code = "INCOMPATIBLE_STATE"
	MissingIdentifier         Code = "MISSING_IDENTIFIER"
	UnnecessaryIdentifier     Code = "UNNECESSARY_IDENTIFIER"
	InvalidProtocol           Code = "INVALID_PROTOCOL"
	InvalidCredential         Code = "INVALID_CREDENTIAL"
	InvalidToken              Code = "INVALID_TOKEN"
	InvalidSink               Code = "INVALID_SINK"
	QuotaExceeded             Code = "QUOTA_EXCEEDED"
	EmergencyNotSupported     Code = "CALLTYPE_EMERGENCY_NOT_SUPPORTED"
	EmergencyAddressMissing   Code = "EMERGENCY_ADDRESS_MISSING"
	Internal                  Code = "INTERNAL"
	Unavailable               Code = "UNAVAILABLE"
	Timeout                   Code = "TIMEOUT"
)

// Error is what a use case answers when it refuses. Message is for the developer
// of the calling app: it names the field at fault and holds no secret.
type Error struct {
	Code    Code
	Message string
	// Err is the cause, for the log only.
	Err error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error. A %w verb keeps its operand as the cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// CodeOf is the code of the first Error in err's chain, Internal for any other
// error and empty for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
