package main

import (
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// newLog returns the log that a configuration wants, on w. Its level is set
// for the whole process, so that a reload can change it.
func newLog(w io.Writer, cfg Log) zerolog.Logger {
	zerolog.TimeFieldFormat = time.RFC3339Nano
	if cfg.Format == "console" || cfg.Format == "auto" && isTerminal(w) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: !isTerminal(w)}
	}
	setLevel(cfg)
	return zerolog.New(w).With().Timestamp().Logger()
}

func setLevel(cfg Log) {
	level, err := zerolog.ParseLevel(cfg.Level)
	if err != nil { // the configuration was checked
		level = zerolog.InfoLevel
	}
	zerolog.SetGlobalLevel(level)
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
