// Package structure tells what a message looks like from outside: where its
// parts begin and end, and what IMAP's ENVELOPE and BODYSTRUCTURE say of it. A
// Parser finds that out while the message streams past, in time linear in the
// message and in memory bounded whatever a sender nests, repeats or leaves
// out; nothing needs to be parsed again when a client asks.
package structure

import (
	"math"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// Param is one parameter of a header field, as written in the message: RFC
// 2231 names and values are not decoded.
type Param struct{ Name, Value string }

// Part is a message or a part of one (RFC 2046). All offsets count from the
// start of the outermost message.
type Part struct {
	Header int64 // first octet of the header
	Body   int64 // first octet after the header and its empty line
	End    int64 // first octet after the body
	Lines  int64 // line ends in the body

	Type, Subtype string // lower case
	Params        []Param
	ID            string
	Description   string
	Encoding      string // lower case; empty: 7bit
	Disposition   string // empty: none was given
	DispParams    []Param
	Language      []string
	Location      string

	Children []*Part        // of a multipart: one at least
	Message  *Part          // of a message/rfc822: the message inside
	Envelope *imap.Envelope // of a message
}

// multipart says whether p has children and no content of its own.
func (p *Part) multipart() bool { return p.Type == "multipart" }

// Multipart says whether p has parts rather than content.
func (p *Part) Multipart() bool { return p.multipart() }

// Text says whether p is readable text.
func (p *Part) Text() bool { return p.Type == "text" }

// Charset is the charset parameter in lower case, or empty.
func (p *Part) Charset() string {
	for _, q := range p.Params {
		if q.Name == "charset" {
			return strings.ToLower(q.Value)
		}
	}
	return ""
}

// Find returns the part of message p with the given number (RFC 9051 section
// 6.4.5.1), p itself for the empty number, or nil.
func (p *Part) Find(number []int) *Part {
	node, isMessage := p, true
	for _, n := range number {
		if !isMessage && node.Message != nil {
			node, isMessage = node.Message, true
		}
		switch {
		case node.multipart():
			if n < 1 || n > len(node.Children) {
				return nil
			}
			node, isMessage = node.Children[n-1], false
		case isMessage && n == 1:
			isMessage = false // the only part of a message is its body
		default:
			return nil
		}
	}
	return node
}

// BodyStructure returns p in IMAP's terms, with the extension data.
func (p *Part) BodyStructure() imap.BodyStructure {
	if p.multipart() {
		children := make([]imap.BodyStructure, len(p.Children))
		for i, c := range p.Children {
			children[i] = c.BodyStructure()
		}
		return &imap.BodyStructureMultiPart{
			Children: children,
			Subtype:  p.Subtype,
			Extended: &imap.BodyStructureMultiPartExt{
				Params:      paramMap(p.Params),
				Disposition: p.disposition(),
				Language:    p.Language,
				Location:    p.Location,
			},
		}
	}
	single := &imap.BodyStructureSinglePart{
		Type:        p.Type,
		Subtype:     p.Subtype,
		Params:      paramMap(p.Params),
		ID:          p.ID,
		Description: p.Description,
		Encoding:    p.Encoding,
		Size:        uint32(min(p.End-p.Body, math.MaxUint32)),
		Extended: &imap.BodyStructureSinglePartExt{
			Disposition: p.disposition(),
			Language:    p.Language,
			Location:    p.Location,
		},
	}
	switch {
	case p.Message != nil:
		single.MessageRFC822 = &imap.BodyStructureMessageRFC822{
			Envelope:      p.Message.Envelope,
			BodyStructure: p.Message.BodyStructure(),
			NumLines:      p.Lines,
		}
	case p.Text():
		single.Text = &imap.BodyStructureText{NumLines: p.Lines}
	}
	return single
}

func (p *Part) disposition() *imap.BodyStructureDisposition {
	if p.Disposition == "" {
		return nil
	}
	return &imap.BodyStructureDisposition{Value: p.Disposition, Params: paramMap(p.DispParams)}
}

func paramMap(params []Param) map[string]string {
	if len(params) == 0 {
		return nil
	}
	m := make(map[string]string, len(params))
	for _, q := range params {
		m[q.Name] = q.Value
	}
	return m
}
