package devoauth

import (
	"encoding/json"
	"errors"
	"net/http"
)

// oauthError is an error answer of RFC 6749 §5.2 or of an extension.
type oauthError struct {
	Code        string // error
	Description string // error_description, ASCII
	Status      int    // HTTP status; 0 is 400
}

func (e *oauthError) Error() string { return e.Code + ": " + e.Description }

func refuse(code, description string) *oauthError {
	return &oauthError{Code: code, Description: description}
}

// refuseClient is invalid_client, always with status 401 (RFC 6749 §5.2).
func refuseClient(description string) *oauthError {
	return &oauthError{Code: "invalid_client", Description: description, Status: http.StatusUnauthorized}
}

// writeError answers with err, or with server_error when it is of another kind.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	var oe *oauthError
	if !errors.As(err, &oe) {
		oe = &oauthError{Code: "server_error", Description: "the server failed to make the answer", Status: http.StatusInternalServerError}
	}
	status := oe.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	if status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="devoauth"`)
	}
	writeJSON(w, status, map[string]string{"error": oe.Code, "error_description": oe.Description})
}

// writeJSON answers with v; nothing that this server says may be cached unless
// the header is set before.
func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the peer has gone when this fails
}
