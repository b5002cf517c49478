package mobileconfig

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"strings"
)

// dict is a property list's dictionary. Its order is for people.
type dict []entry

// entry is a key and a value: string, int, bool, []byte, dict or []any.
type entry struct {
	key   string
	value any
}

const head = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
`

// write writes a value as XML. It panics on a type that entry does not list.
func write(b *bytes.Buffer, value any, depth int) {
	indent := strings.Repeat("\t", depth)
	switch v := value.(type) {
	case dict:
		b.WriteString(indent + "<dict>\n")
		for _, e := range v {
			b.WriteString(indent + "\t<key>" + e.key + "</key>\n")
			write(b, e.value, depth+1)
		}
		b.WriteString(indent + "</dict>\n")
	case []any:
		b.WriteString(indent + "<array>\n")
		for _, item := range v {
			write(b, item, depth+1)
		}
		b.WriteString(indent + "</array>\n")
	case string:
		b.WriteString(indent + "<string>")
		_ = xml.EscapeText(b, []byte(v)) // a buffer takes everything
		b.WriteString("</string>\n")
	case int:
		fmt.Fprintf(b, "%s<integer>%d</integer>\n", indent, v)
	case bool:
		fmt.Fprintf(b, "%s<%t/>\n", indent, v)
	case []byte:
		b.WriteString(indent + "<data>" + base64.StdEncoding.EncodeToString(v) + "</data>\n")
	default:
		panic(fmt.Sprintf("mobileconfig: %T is nothing for a property list", v))
	}
}
