package smtp

import (
	"fmt"
	"strings"

	"posthorn/backend"
)

// extensions takes the lines of a reply to EHLO that are extensions out of it.
func extensions(reply string) []string {
	lines := strings.Split(strings.TrimSuffix(reply, "\r\n"), "\r\n")[1:]
	for i, line := range lines {
		lines[i] = line[len("250-"):]
	}
	return lines
}

// greeted is the reply to EHLO or HELO of a server that has some extensions, as
// far as the backend has them too. RFC 5321 section 4.1.1.1: it names itself.
func greeted(hostname string, extensions []string, can backend.Submission) string {
	missing := map[string]bool{"8BITMIME": !can.EightBitMIME, "SMTPUTF8": !can.UTF8, "DSN": !can.DSN}
	var b strings.Builder
	last := hostname
	for _, extension := range extensions {
		keyword, _, _ := strings.Cut(extension, " ")
		switch {
		case missing[keyword]:
			continue
		case keyword == "SIZE":
			extension = fmt.Sprintf("SIZE %d", can.MaxSize)
		}
		fmt.Fprintf(&b, "250-%s\r\n", last)
		last = extension
	}
	fmt.Fprintf(&b, "250 %s\r\n", last)
	return b.String()
}
