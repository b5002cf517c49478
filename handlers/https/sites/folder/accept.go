package folder

import (
	"strconv"
	"strings"
)

// accepts reports which codings the values of Accept-Encoding allow (RFC 9110
// section 12.5.3).
func accepts(values []string) (br, gz bool) {
	var any bool
	said := make(map[string]bool, 4)
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			coding, weight, _ := strings.Cut(part, ";")
			coding = strings.ToLower(strings.TrimSpace(coding))
			switch ok := weighs(weight); coding {
			case "br", "gzip":
				said[coding] = ok
			case "x-gzip":
				said["gzip"] = ok
			case "*":
				any = ok
			}
		}
	}
	allowed := func(coding string) bool {
		ok, there := said[coding]
		return ok || !there && any
	}
	return allowed("br"), allowed("gzip")
}

// weighs reports whether a weight, such as "q=0.5", is more than nothing.
func weighs(weight string) bool {
	name, q, ok := strings.Cut(strings.TrimSpace(weight), "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return true
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
	return err == nil && n > 0
}
