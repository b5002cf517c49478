package badgerkv

import (
	"fmt"
	"strings"

	"github.com/rs/zerolog"
)

// logger is what Badger logs through. It keeps the first line of each message,
// because dumps of values begin on the second, and drops Badger's debug
// messages, which quote keys.
type logger struct{ log zerolog.Logger }

func (l logger) Errorf(format string, v ...any)   { l.write(zerolog.ErrorLevel, format, v) }
func (l logger) Warningf(format string, v ...any) { l.write(zerolog.WarnLevel, format, v) }
func (l logger) Infof(format string, v ...any)    { l.write(zerolog.DebugLevel, format, v) }
func (l logger) Debugf(string, ...any)            {}

func (l logger) write(level zerolog.Level, format string, v []any) {
	if e := l.log.WithLevel(level); e.Enabled() {
		line, _, _ := strings.Cut(strings.TrimSpace(fmt.Sprintf(format, v...)), "\n")
		e.Str("note", line).Msg("badger")
	}
}
