package camara

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/isthmus-gateway/isthmus/controlplane/internal/call"
)

// Codes of CAMARA Commonalities that no use case answers.
const (
	codeUnauthenticated      call.Code = "UNAUTHENTICATED"
	codeMethodNotAllowed     call.Code = "METHOD_NOT_ALLOWED"
	codeNotAcceptable        call.Code = "NOT_ACCEPTABLE"
	codePayloadTooLarge      call.Code = "PAYLOAD_TOO_LARGE"
	codeUnsupportedMediaType call.Code = "UNSUPPORTED_MEDIA_TYPE"
	codeTooManyRequests      call.Code = "TOO_MANY_REQUESTS"
)

// httpStatus is the one place where a code becomes an HTTP status.
var httpStatus = map[call.Code]int{
	call.InvalidArgument:                               http.StatusBadRequest,
	call.OutOfRange:                                    http.StatusBadRequest,
	call.InvalidProtocol:                               http.StatusBadRequest,
	call.InvalidCredential:                             http.StatusBadRequest,
	call.InvalidToken:                                  http.StatusBadRequest,
	call.InvalidSink:                                   http.StatusBadRequest,
	call.EmergencyAddressMissing:                       http.StatusBadRequest,
	codeUnauthenticated:                                http.StatusUnauthorized,
	call.PermissionDenied:                              http.StatusForbidden,
	call.InvalidTokenContext:                           http.StatusForbidden,
	call.SubscriptionMismatch:                          http.StatusForbidden,
	call.MaxRegistrationsPerUser:                       http.StatusForbidden,
	call.MaxRegistrationsPerMSISDN:                     http.StatusForbidden,
	call.MaxDevicesPerUser:                             http.StatusForbidden,
	call.NotFound:                                      http.StatusNotFound,
	"IDENTIFIER_NOT_FOUND":                             http.StatusNotFound,
	codeMethodNotAllowed:                               http.StatusMethodNotAllowed,
	codeNotAcceptable:                                  http.StatusNotAcceptable,
	call.AlreadyExists:                                 http.StatusConflict,
	call.IncompatibleState:                             http.StatusConflict,
	"ABORTED":                                          http.StatusConflict,
	codePayloadTooLarge:                                http.StatusRequestEntityTooLarge,
	codeUnsupportedMediaType:                           http.StatusUnsupportedMediaType,
	call.MissingIdentifier:                             http.StatusUnprocessableEntity,
	call.UnnecessaryIdentifier:                         http.StatusUnprocessableEntity,
	"UNSUPPORTED_IDENTIFIER":                           http.StatusUnprocessableEntity,
	"SERVICE_NOT_APPLICABLE":                           http.StatusUnprocessableEntity,
	"MULTIEVENT_SUBSCRIPTION_NOT_SUPPORTED":            http.StatusUnprocessableEntity,
	"MULTIEVENT_COMBINATION_TEMPORARILY_NOT_SUPPORTED": http.StatusUnprocessableEntity,
	call.QuotaExceeded:                                 http.StatusTooManyRequests,
	codeTooManyRequests:                                http.StatusTooManyRequests,
	call.Internal:                                      http.StatusInternalServerError,
	call.EmergencyNotSupported:                         http.StatusNotImplemented,
	"BAD_GATEWAY":                                      http.StatusBadGateway,
	call.Unavailable:                                   http.StatusServiceUnavailable,
	call.Timeout:                                       http.StatusGatewayTimeout,
}

// ErrorInfo is the body of every refusal (CAMARA Commonalities).
type ErrorInfo struct {
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// maxMessage bounds ErrorInfo.message, in characters.
const maxMessage = 512

// failure is a refusal on its way to the caller.
type failure struct {
	info   ErrorInfo
	header http.Header
	// cause is for the log.
	cause error
}

func (f *failure) Error() string {
	if f.cause != nil {
		return fmt.Sprintf("%s: %s: %v", f.info.Code, f.info.Message, f.cause)
	}
	return f.info.Code + ": " + f.info.Message
}

func (f *failure) Unwrap() error { return f.cause }

// refuse makes a failure.
func refuse(code call.Code, format string, args ...any) *failure {
	return &failure{info: errorInfo(code, fmt.Sprintf(format, args...))}
}

// fault reports whether the gateway or what it depends on is to blame, and not
// a caller who went away.
func (f *failure) fault() bool {
	return f.info.Status >= http.StatusInternalServerError && f.info.Status != http.StatusNotImplemented && !errors.Is(f.cause, context.Canceled)
}

// with adds a header field to the answer.
func (f *failure) with(key, value string) *failure {
	if f.header == nil {
		f.header = http.Header{}
	}
	f.header.Set(key, value)
	return f
}

// failureOf maps any error to its answer. What is not a *call.Error is a fault of
// the gateway, of which the caller is told nothing.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var e *call.Error
	if errors.As(err, &e) {
		if _, known := httpStatus[e.Code]; known && e.Code != call.Internal {
			return &failure{info: errorInfo(e.Code, e.Message), cause: e.Err}
		}
	} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &failure{info: errorInfo(call.Timeout, "The request took too long; it may have had its effect."), cause: err}
	}
	return &failure{info: errorInfo(call.Internal, "The gateway failed to serve the request."), cause: err}
}

func errorInfo(code call.Code, message string) ErrorInfo {
	message = strings.ToValidUTF8(message, "�")
	if message == "" {
		message = strings.ToLower(strings.ReplaceAll(string(code), "_", " "))
	}
	if utf8.RuneCountInString(message) > maxMessage {
		message = string([]rune(message)[:maxMessage-1]) + "…"
	}
	return ErrorInfo{Status: httpStatus[code], Code: string(code), Message: message}
}
