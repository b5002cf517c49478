package sendmail

import (
	"bytes"
	"mime"
	"mime/quotedprintable"
	"strings"
	"unicode/utf8"
)

// quote makes the body quoted-printable (RFC 2045 section 6.7), which has no long
// lines. It leaves alone what has parts, and what is encoded already.
func (d *draft) quote() {
	switch encoding := d.header.get("content-transfer-encoding"); {
	case encoding == nil:
	case strings.EqualFold(encoding.value(), "7bit"), strings.EqualFold(encoding.value(), "8bit"):
	default:
		return
	}
	if f := d.header.get("content-type"); f != nil {
		kind, _, err := mime.ParseMediaType(f.value())
		if err != nil || !strings.HasPrefix(kind, "text/") {
			return
		}
	} else {
		d.header.set("Content-Type", "text/plain; charset="+charset(d.body.Bytes()))
	}
	var quoted bytes.Buffer
	w := quotedprintable.NewWriter(&quoted)
	_, _ = w.Write(d.body.Bytes()) // to memory
	_ = w.Close()
	d.body, d.eightBit, d.longest = quoted, false, 0
	d.header.set("Content-Transfer-Encoding", "quoted-printable")
	if d.header.get("mime-version") == nil {
		d.header.set("MIME-Version", "1.0")
	}
}

// charset guesses the character set of a text.
func charset(text []byte) string {
	switch {
	case isASCII(text):
		return "us-ascii"
	case utf8.Valid(text):
		return "utf-8"
	}
	return "unknown-8bit" // RFC 1428
}
