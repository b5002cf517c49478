package structure

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/emersion/go-imap/v2"
)

// ErrFormat says that octets are no encoded Part.
var ErrFormat = errors.New("structure: bad encoding")

const version = 1

// Encode returns p and all it contains in a form to be stored. It stays below
// 512 KiB for what a Parser returned.
func (p *Part) Encode() []byte {
	e := encoder{version}
	e.part(p)
	return e
}

// Decode is the inverse of Encode.
func Decode(b []byte) (*Part, error) {
	if len(b) == 0 || b[0] != version {
		return nil, ErrFormat
	}
	d := decoder{b: b[1:]}
	p := d.part(0)
	if d.bad || len(d.b) > 0 {
		return nil, ErrFormat
	}
	return p, nil
}

type encoder []byte

func (e *encoder) int(n int64)  { *e = binary.AppendVarint(*e, n) }
func (e *encoder) len(n int)    { *e = binary.AppendUvarint(*e, uint64(n)) }
func (e *encoder) str(s string) { e.len(len(s)); *e = append(*e, s...) }

func (e *encoder) flag(b bool) bool {
	n := 0
	if b {
		n = 1
	}
	e.len(n)
	return b
}

func (e *encoder) part(p *Part) {
	e.int(p.Header)
	e.int(p.Body - p.Header)
	e.int(p.End - p.Body)
	e.int(p.Lines)
	e.str(p.Type)
	e.str(p.Subtype)
	e.params(p.Params)
	e.str(p.ID)
	e.str(p.Description)
	e.str(p.Encoding)
	e.str(p.Disposition)
	e.params(p.DispParams)
	e.strs(p.Language)
	e.str(p.Location)
	if e.flag(p.Envelope != nil) {
		e.envelope(p.Envelope)
	}
	if e.flag(p.Message != nil) {
		e.part(p.Message)
	}
	e.len(len(p.Children))
	for _, c := range p.Children {
		e.part(c)
	}
}

func (e *encoder) strs(l []string) {
	e.len(len(l))
	for _, s := range l {
		e.str(s)
	}
}

func (e *encoder) params(l []Param) {
	e.len(len(l))
	for _, q := range l {
		e.str(q.Name)
		e.str(q.Value)
	}
}

func (e *encoder) envelope(v *imap.Envelope) {
	if e.flag(!v.Date.IsZero()) {
		_, zone := v.Date.Zone()
		e.int(v.Date.Unix())
		e.int(int64(zone))
	}
	e.str(v.Subject)
	for _, l := range [][]imap.Address{v.From, v.Sender, v.ReplyTo, v.To, v.Cc, v.Bcc} {
		e.len(len(l))
		for _, a := range l {
			e.str(a.Name)
			e.str(a.Mailbox)
			e.str(a.Host)
		}
	}
	e.strs(v.InReplyTo)
	e.str(v.MessageID)
}

// decoder reads what encoder wrote; once bad, it returns zero values.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// len reads a number of things that take an octet each at least.
func (d *decoder) len() int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > uint64(len(d.b)-n) {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

func (d *decoder) flag() bool {
	if len(d.b) == 0 || d.b[0] > 1 {
		d.bad, d.b = true, nil
		return false
	}
	v := d.b[0] == 1
	d.b = d.b[1:]
	return v
}

func (d *decoder) str() string {
	n := d.len()
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) part(depth int) *Part {
	if depth > 2*maxDepth+2 {
		d.bad, d.b = true, nil
		return &Part{}
	}
	p := &Part{Header: d.int()}
	p.Body = p.Header + d.int()
	p.End = p.Body + d.int()
	p.Lines = d.int()
	p.Type = d.str()
	p.Subtype = d.str()
	p.Params = d.params()
	p.ID = d.str()
	p.Description = d.str()
	p.Encoding = d.str()
	p.Disposition = d.str()
	p.DispParams = d.params()
	p.Language = d.strs()
	p.Location = d.str()
	if d.flag() {
		p.Envelope = d.envelope()
	}
	if d.flag() {
		p.Message = d.part(depth + 1)
	}
	for n := d.len(); n > 0 && !d.bad; n-- {
		p.Children = append(p.Children, d.part(depth+1))
	}
	if p.multipart() != (len(p.Children) > 0) || p.Header < 0 || p.Body < p.Header || p.End < p.Body {
		d.bad = true
	}
	return p
}

func (d *decoder) strs() []string {
	var l []string
	for n := d.len(); n > 0 && !d.bad; n-- {
		l = append(l, d.str())
	}
	return l
}

func (d *decoder) params() []Param {
	var l []Param
	for n := d.len(); n > 0 && !d.bad; n-- {
		l = append(l, Param{d.str(), d.str()})
	}
	return l
}

func (d *decoder) envelope() *imap.Envelope {
	v := &imap.Envelope{}
	if d.flag() {
		sec, zone := d.int(), d.int()
		if zone < -86400 || zone > 86400 {
			d.bad = true
			zone = 0
		}
		v.Date = time.Unix(sec, 0).In(time.FixedZone("", int(zone)))
	}
	v.Subject = d.str()
	for _, l := range []*[]imap.Address{&v.From, &v.Sender, &v.ReplyTo, &v.To, &v.Cc, &v.Bcc} {
		for n := d.len(); n > 0 && !d.bad; n-- {
			*l = append(*l, imap.Address{Name: d.str(), Mailbox: d.str(), Host: d.str()})
		}
	}
	v.InReplyTo = d.strs()
	v.MessageID = d.str()
	return v
}
