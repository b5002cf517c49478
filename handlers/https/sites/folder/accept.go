package folder

import (
	"strconv"
	"strings"
)

// weight is what a client says of a coding.
type weight uint8

const (
	unsaid weight = iota
	refused
	accepted
)

// accepts reports which codings the values of Accept-Encoding allow (RFC 9110
// section 12.5.3).
func accepts(values []string) (br, gz bool) {
	var ofBr, ofGz, ofOthers weight
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			coding, params, _ := strings.Cut(part, ";")
			coding = strings.TrimSpace(coding)
			switch {
			case strings.EqualFold(coding, "br"):
				ofBr = weigh(params)
			case strings.EqualFold(coding, "gzip"), strings.EqualFold(coding, "x-gzip"):
				ofGz = weigh(params)
			case coding == "*":
				ofOthers = weigh(params)
			}
		}
	}
	allows := func(w weight) bool { return w == accepted || w == unsaid && ofOthers == accepted }
	return allows(ofBr), allows(ofGz)
}

// weigh reads a parameter such as "q=0.5".
func weigh(param string) weight {
	name, q, ok := strings.Cut(strings.TrimSpace(param), "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(name), "q") {
		return accepted
	}
	if n, err := strconv.ParseFloat(strings.TrimSpace(q), 64); err != nil || !(n > 0) {
		return refused
	}
	return accepted
}
