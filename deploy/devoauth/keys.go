package devoauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signers says how the key of each signature algorithm is made.
var signers = map[jose.SignatureAlgorithm]func() (crypto.Signer, error){
	jose.ES256: func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	jose.RS256: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	jose.PS256: func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
}

// signingKey is one key of the ring. It is published for as long as a token
// signed with it may be alive.
type signingKey struct {
	JWK     jose.JSONWebKey `json:"jwk"` // with the private part
	Made    time.Time       `json:"made"`
	NeedTil time.Time       `json:"needed_until"`
	signers map[string]jose.Signer
}

// keyRing holds the keys, the newest last; that one signs.
type keyRing struct {
	file        string
	algorithm   jose.SignatureAlgorithm
	rotateAfter time.Duration
	life        time.Duration // of the usual token
	now         func() time.Time

	mu      sync.Mutex
	keys    []*signingKey
	subject []byte // key of the opaque subject identifiers
}

// keyFile is the content of Config.KeyFile.
type keyFile struct {
	Keys    []*signingKey `json:"keys"`
	Subject []byte        `json:"subject_key"`
}

func newKeyRing(cfg Config) (*keyRing, error) {
	r := &keyRing{
		file:        cfg.KeyFile,
		algorithm:   jose.SignatureAlgorithm(cfg.Algorithm),
		rotateAfter: cfg.RotateAfter,
		life:        cfg.AccessTokenTTL,
		now:         cfg.Now,
	}
	if r.file != "" {
		if err := r.load(); err != nil {
			return nil, err
		}
	}
	if len(r.keys) == 0 {
		r.subject = make([]byte, 32)
		if _, err := rand.Read(r.subject); err != nil {
			return nil, err
		}
		key, err := r.generate()
		if err != nil {
			return nil, err
		}
		r.keys = []*signingKey{key}
		if err := r.create(); err != nil {
			return nil, err
		}
	}
	if r.keys[len(r.keys)-1].JWK.Algorithm != string(r.algorithm) {
		return r, r.rotate()
	}
	return r, nil
}

func (r *keyRing) generate() (*signingKey, error) {
	key, err := signers[r.algorithm]()
	if err != nil {
		return nil, fmt.Errorf("make a %s signing key: %w", r.algorithm, err)
	}
	jwk := jose.JSONWebKey{Key: key, Algorithm: string(r.algorithm), Use: "sig"}
	thumb, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	jwk.KeyID = base64.RawURLEncoding.EncodeToString(thumb[:12])
	return &signingKey{JWK: jwk, Made: r.now()}, nil
}

func (r *keyRing) load() error {
	b, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read key_file: %w", err)
	}
	var f keyFile
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("read key_file %s: %w; delete it to start with new keys", r.file, err)
	}
	for _, k := range f.Keys {
		if !k.JWK.Valid() || k.JWK.IsPublic() {
			return fmt.Errorf("read key_file %s: key %q has no private part; delete the file to start with new keys", r.file, k.JWK.KeyID)
		}
	}
	if len(f.Keys) == 0 || len(f.Subject) < 16 {
		return fmt.Errorf("read key_file %s: it holds no keys; delete it to start with new keys", r.file)
	}
	r.keys, r.subject = f.Keys, f.Subject
	return nil
}

// create writes the file unless another process was faster, whose keys are then
// used: two servers with one file always sign with the same key.
func (r *keyRing) create() error {
	if r.file == "" {
		return nil
	}
	tmp, err := r.write()
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	err = os.Link(tmp, r.file)
	if errors.Is(err, fs.ErrExist) {
		return r.load()
	}
	if err != nil {
		return fmt.Errorf("write key_file: %w", err)
	}
	return nil
}

func (r *keyRing) write() (tmp string, err error) {
	b, err := json.MarshalIndent(keyFile{Keys: r.keys, Subject: r.subject}, "", "  ")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(r.file), 0o700); err != nil {
		return "", fmt.Errorf("write key_file: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(r.file), ".keys-*") // mode 0600
	if err != nil {
		return "", fmt.Errorf("write key_file: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("write key_file: %w", err)
	}
	return f.Name(), nil
}

// rotate makes a new signing key and forgets the keys whose tokens are all dead.
func (r *keyRing) rotate() error {
	key, err := r.generate()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.add(key)
}

func (r *keyRing) add(key *signingKey) error {
	// Another process with the same file may have signed with the last key, too.
	last := r.keys[len(r.keys)-1]
	if til := r.now().Add(r.life); til.After(last.NeedTil) {
		last.NeedTil = til
	}
	r.keys = append(r.keys, key)
	r.expire()
	if r.file == "" {
		return nil
	}
	tmp, err := r.write()
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, r.file); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write key_file: %w", err)
	}
	return nil
}

// expire drops old keys that no living token needs; the newest stays.
func (r *keyRing) expire() {
	now := r.now()
	kept := r.keys[:0]
	for i, k := range r.keys {
		if i == len(r.keys)-1 || now.Before(k.NeedTil) {
			kept = append(kept, k)
		}
	}
	r.keys = kept
}

// sign makes a compact JWS of payload with the given typ header; the key stays
// published until exp.
func (r *keyRing) sign(payload []byte, typ string, exp time.Time) (string, error) {
	r.mu.Lock()
	key := r.keys[len(r.keys)-1]
	if r.rotateAfter > 0 && r.now().Sub(key.Made) >= r.rotateAfter {
		fresh, err := r.generate()
		if err == nil {
			err = r.add(fresh)
		}
		if err != nil {
			r.mu.Unlock()
			return "", err
		}
		key = fresh
	}
	if exp.After(key.NeedTil) {
		key.NeedTil = exp
	}
	signer, err := key.signer(typ)
	r.mu.Unlock()
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign a token with key %s: %w", key.JWK.KeyID, err)
	}
	return jws.CompactSerialize()
}

func (k *signingKey) signer(typ string) (jose.Signer, error) {
	if s, ok := k.signers[typ]; ok {
		return s, nil
	}
	s, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.JWK.Algorithm), Key: k.JWK},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return nil, fmt.Errorf("use signing key %s: %w", k.JWK.KeyID, err)
	}
	if k.signers == nil {
		k.signers = map[string]jose.Signer{}
	}
	k.signers[typ] = s
	return s, nil
}

// public is the key set to publish.
func (r *keyRing) public() jose.JSONWebKeySet {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire()
	var set jose.JSONWebKeySet
	for _, k := range r.keys {
		set.Keys = append(set.Keys, k.JWK.Public())
	}
	return set
}

// verify checks a token of this server's own making and returns its payload.
func (r *keyRing) verify(token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256})
	if err != nil {
		return nil, err
	}
	for _, k := range r.public().Keys {
		if k.KeyID == jws.Signatures[0].Header.KeyID {
			return jws.Verify(k)
		}
	}
	return nil, errors.New("signed by no key of this server")
}
