package mediaplane

import (
	"log/slog"
	"syscall"
)

// reservedDescriptors are for everything but RTP ports: shared sockets, the
// connections of control planes, files, and maps of the engine.
const reservedDescriptors = 256

// pairsAllowed is how many RTP port pairs, of two descriptors each, the limit on
// open files leaves room for. Go has raised it to the hard limit when the process
// began. What is configured beyond it is refused session by session, for want of
// descriptors, so that control planes place calls elsewhere.
func pairsAllowed(cfg Config, log *slog.Logger) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	allowed := max(1, (int(min(limit.Cur, 1<<30))-reservedDescriptors)/2)
	if wanted := min(cfg.Limits.Sessions, len(cfg.RTP.Bind)*(int(cfg.RTP.PortMax)-int(cfg.RTP.PortMin)+1)/2); allowed < wanted {
		log.Warn("the limit on open files leaves room for fewer RTP ports than configured; raise it (LimitNOFILE of systemd, ulimit -Hn) or lower limits.sessions",
			"open_files", limit.Cur, "pairs", allowed, "configured", wanted, "open_files_wanted", 2*wanted+reservedDescriptors)
	}
	return allowed
}
