package auth

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4/json"
)

// maxAnswer is the most that is read of an issuer's answer, in bytes.
const maxAnswer = 1 << 20

// statusError is an answer other than 200.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// fetcher sends requests to issuers.
type fetcher struct {
	client  *http.Client
	timeout time.Duration
}

// json sends a request and reads the JSON answer. It goes on to its own timeout
// when ctx ends, as others wait for the same answer.
func (f fetcher) json(ctx context.Context, req *http.Request, into any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.timeout)
	defer cancel()
	req.Header.Set("Accept", "application/json")
	resp, err := f.client.Do(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", req.Method, req.URL.Redacted(), err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s %s: %w", req.Method, req.URL.Redacted(), statusError(resp.StatusCode))
	case len(body) > maxAnswer:
		return fmt.Errorf("%s %s: answer longer than %d bytes", req.Method, req.URL.Redacted(), maxAnswer)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s %s: %w", req.Method, req.URL.Redacted(), err)
	}
	return nil
}
