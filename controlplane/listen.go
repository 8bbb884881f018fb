package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"
)

// server is an HTTP server with its bound listener.
type server struct {
	*http.Server
	net.Listener
}

// listen binds a listener, so that a port that is taken is found at the start;
// key is the configuration key to change then.
func listen(l Listener, key string, h http.Handler, log *slog.Logger) (*server, error) {
	config, err := l.tls()
	if err != nil {
		return nil, fmt.Errorf("%s.%w", key, err)
	}
	listener, err := net.Listen("tcp", l.Address)
	if err != nil {
		return nil, fmt.Errorf("%s.address: %w", key, err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &server{
		Server: &http.Server{
			Handler: h, TLSConfig: config, Protocols: &protocols,
			ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 64 << 10,
			ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
		Listener: listener,
	}, nil
}

// run serves until ctx is done and then lets requests finish for a while.
func (s *server) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if s.Shutdown(grace) != nil {
			// Streams that live as long as their readers.
			s.Server.Close()
		}
	})
	defer stop()
	var err error
	if s.TLSConfig != nil {
		err = s.ServeTLS(s.Listener, "", "")
	} else {
		err = s.Serve(s.Listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		<-ctx.Done()
		return nil
	}
	return err
}

func (l Listener) tls() (*tls.Config, error) {
	if l.Certificate == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(l.Certificate, l.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if l.ClientCA != "" {
		pem, err := os.ReadFile(l.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("client_ca: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("client_ca: %s has no certificate", l.ClientCA)
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if l.mutual {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return config, nil
}
