package telco

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// callBody is the body of POST /call.
type callBody struct {
	To          string   `json:"to"`
	From        string   `json:"from"`
	DisplayName string   `json:"displayName"`
	Anonymous   bool     `json:"anonymous"`
	Scenario    Scenario `json:"scenario"`
	// Ring is how many seconds to ring.
	Ring float64 `json:"ring"`
}

// defaultCaller is who calls when a request names nobody: the call-back
// number, so that calling back works.
const defaultCaller = "+15550114"

// Handler returns the network's small control surface:
//
//	GET  /numbers   the demo numbers: [{"number":…,"scenario":…,"description":…}]
//	POST /call      {"to":"+1…"} and optionally from, displayName, anonymous,
//	                scenario, ring (seconds): rings a subscriber; 202 with
//	                {"callId":…}
//
// Errors are {"error": text} with 400, 405, 409 (cannot be reached) or 413.
// It has no access control of its own: mount it where only the demo's user is.
func (n *Network) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /numbers", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, n.Numbers())
	})
	mux.HandleFunc("POST /call", n.serveCall)
	return mux
}

func (n *Network) serveCall(w http.ResponseWriter, r *http.Request) {
	var body callBody
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		writeError(w, status, fmt.Errorf("read the call request: %w", err))
		return
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		writeError(w, http.StatusBadRequest, errors.New("read the call request: there is more after the JSON object"))
		return
	}
	if body.From == "" {
		body.From = defaultCaller
	}
	to, from := n.normalize.number(body.To), n.normalize.number(body.From)
	switch {
	case to == "" || from == "":
		writeError(w, http.StatusBadRequest, fmt.Errorf("call from %q to %q: both must be telephone numbers", body.From, body.To))
		return
	case body.Scenario != "" && talks[body.Scenario] == nil:
		writeError(w, http.StatusBadRequest, fmt.Errorf("a caller cannot play the scenario %q", body.Scenario))
		return
	case body.Ring < 0 || body.Ring > 600:
		writeError(w, http.StatusBadRequest, fmt.Errorf("ring is %v; it must be 0 to 600 seconds", body.Ring))
		return
	}
	call, err := n.Call(r.Context(), CallRequest{
		From: from, To: to, DisplayName: body.DisplayName, Anonymous: body.Anonymous, Scenario: body.Scenario,
		Ring: time.Duration(body.Ring * float64(time.Second)),
	})
	if err != nil {
		writeError(w, http.StatusConflict, err)
		return
	}
	writeJSON(w, http.StatusAccepted, map[string]string{"callId": call.CallID(), "from": from, "to": to})
}

func writeError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"error": err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // a client that left is no error of ours
}
