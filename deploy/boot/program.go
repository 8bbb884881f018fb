package boot

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime/debug"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Program is one of the project's commands: it runs until a signal, and shows
// its configuration.
type Program struct {
	Name        string
	Description string
	// Prefix of its environment variables.
	Prefix string
	// Config is a pointer to the defaults; it is filled before Run.
	Config any
	// Flags is a pointer to a struct of flags that only this program has; nil
	// for none.
	Flags any
	Run   func(Process) error
}

// Process is what Run gets.
type Process struct {
	// Context is done at SIGINT or SIGTERM.
	Context context.Context
	Version string
	// Collectors of the Go runtime and the process.
	Collectors []prometheus.Collector
	// Again reads the configuration once more, from everywhere it came from; it
	// answers a pointer of the type of Program.Config.
	Again func() (any, error)
}

// Sourced are the flags by which every command takes its configuration.
type Sourced struct {
	File string   `name:"config" short:"c" placeholder:"FILE" help:"Configuration file in YAML."`
	Set  []string `name:"set" sep:"none" placeholder:"KEY=VALUE" help:"Set one configuration key; repeatable. Environment variables do the same: ISTHMUS_, then the key in capitals with _ for dots."`
}

type programCLI struct {
	Sourced
	kong.Plugins
	Run     struct{}    `cmd:"" default:"1" help:"Start (the default)."`
	Config  ConfigGroup `cmd:"" help:"Show the configuration."`
	Version struct{}    `cmd:"" help:"Print the version."`
}

// ConfigGroup is the command "config" of every program.
type ConfigGroup struct {
	Print     struct{} `cmd:"" help:"Print the effective configuration, secrets hidden."`
	Reference struct{} `cmd:"" help:"Print every key with its default and meaning, as a Markdown table."`
}

// Main is the whole of a main function. It does not return when something fails.
func Main(p Program) {
	var c programCLI
	if p.Flags != nil {
		c.Plugins = kong.Plugins{p.Flags}
	}
	k := kong.Parse(&c, kong.Name(p.Name), kong.Description(p.Description), kong.UsageOnError())
	if err := p.execute(k.Command(), c.Sourced); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
		os.Exit(1)
	}
}

func (p Program) execute(command string, s Sourced) error {
	switch command {
	case "version":
		fmt.Println(p.Name, Version())
		return nil
	case "config reference":
		return Reference(os.Stdout, p.Config)
	}
	defaults := deepCopy(reflect.ValueOf(p.Config).Elem())
	if err := Load(p.Config, s.Sources(p.Prefix)); err != nil {
		return err
	}
	if command == "config print" {
		return Print(os.Stdout, p.Config)
	}
	ctx, stop := Signals()
	defer stop()
	again := func() (any, error) {
		fresh := reflect.New(defaults.Type())
		fresh.Elem().Set(deepCopy(defaults))
		return fresh.Interface(), Load(fresh.Interface(), s.Sources(p.Prefix))
	}
	return p.Run(Process{Context: ctx, Version: Version(), Collectors: Collectors(), Again: again})
}

// Sources of a configuration as the flags, the environment and a variable
// PREFIX_CONFIG that names the file say.
func (s Sourced) Sources(prefix string) Sources {
	variable := prefix + "_CONFIG"
	if s.File == "" {
		s.File = os.Getenv(variable)
	}
	return Sources{File: s.File, Prefix: prefix, Environ: os.Environ(), Ignore: []string{variable}, Set: s.Set}
}

// Version is that of the module, as the build recorded it.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// Collectors of the Go runtime and the process.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
}

// ServeAdmin serves health and metrics until stop is called; an empty address
// serves none.
func ServeAdmin(address string, metrics *prometheus.Registry) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for health and metrics: %w; change admin", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener)
	return func() { server.Close() }, nil
}
