// Package program builds the programs of this project for end-to-end tests, once
// for a test process, as they are shipped: pure Go, without the race detector.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Names of the programs.
const (
	Isthmus      = "isthmus"
	ControlPlane = "controlplane"
	MediaPlane   = "mediaplane"
)

var packages = []string{"./deploy/cmd/isthmus", "./controlplane/cmd/controlplane", "./mediaplane/cmd/mediaplane"}

var build = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "isthmus-e2e-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", dir + "/"}, packages...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return dir, nil
})

// Path answers the path of a program, built when it is the first.
func Path(t testing.TB, name string) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// Remove deletes what was built. It is for the end of TestMain.
func Remove() {
	if dir, _ := build(); dir != "" {
		_ = os.RemoveAll(dir) // a directory for temporary files
	}
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("there is no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
