package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/isthmus-gateway/isthmus/controlplane"
)

// accountCmd provisions the numbers that register at the operator's registrar, each
// with its own account. Accounts lie sealed in the store; a running gateway needs no
// restart.
type accountCmd struct {
	Set    accountSetCmd    `cmd:"" help:"Give a number an account; the password is read from standard input."`
	Delete accountDeleteCmd `cmd:"" help:"Remove a number's account."`
	List   accountListCmd   `cmd:"" help:"List the accounts, without passwords."`
}

type accountSetCmd struct {
	Number   string `arg:"" placeholder:"+NUMBER" help:"Number in E.164 form."`
	Username string `placeholder:"NAME" help:"Digest user name; the number when left out."`
	Trunk    string `placeholder:"NAME" help:"Trunk of mode register; not needed when there is only one."`
}

func (a accountSetCmd) Run(c *cli) error {
	password, err := readPassword(os.Stdin)
	if err != nil {
		return err
	}
	if a.Username == "" {
		a.Username = a.Number
	}
	return withAccounts(c, func(ctx context.Context, accounts *controlplane.Accounts) error {
		return accounts.Set(ctx, a.Trunk, a.Number, a.Username, password)
	})
}

// readPassword takes one line, so that the password is in no process list.
func readPassword(r io.Reader) (string, error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("the password is read from standard input, which has none")
	}
	return line, nil
}

type accountDeleteCmd struct {
	Number string `arg:"" placeholder:"+NUMBER" help:"Number in E.164 form."`
	Trunk  string `placeholder:"NAME" help:"Trunk of mode register; not needed when there is only one."`
}

func (a accountDeleteCmd) Run(c *cli) error {
	return withAccounts(c, func(ctx context.Context, accounts *controlplane.Accounts) error {
		return accounts.Delete(ctx, a.Trunk, a.Number)
	})
}

type accountListCmd struct{}

func (accountListCmd) Run(c *cli) error {
	return withAccounts(c, func(ctx context.Context, accounts *controlplane.Accounts) error {
		all, err := accounts.List(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TRUNK\tNUMBER\tUSERNAME")
		for _, a := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\n", a.Trunk, a.Number, a.Username)
		}
		return w.Flush()
	})
}

func withAccounts(c *cli, f func(context.Context, *controlplane.Accounts) error) error {
	config, err := c.load()
	if err != nil {
		return err
	}
	if err := config.prepare(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctx := context.Background()
	accounts, err := controlplane.OpenAccounts(ctx, config.Control, log)
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, accounts), accounts.Close())
}
