package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"posthorn/admin"
)

// Signup lets people create accounts for themselves, in the way of chatmail
// servers.
type Signup struct {
	// Domains are those of Domains at whose /new they do; they must be the
	// embedded mailboxes'. Empty: nowhere.
	Domains []string `yaml:"domains"`
	// NameLength and NameAlphabet are what local parts are made of, at random.
	NameLength   int    `yaml:"name_length"`
	NameAlphabet string `yaml:"name_alphabet"`
	// PasswordLength is how many letters and digits passwords have.
	PasswordLength int `yaml:"password_length"`
	// TokenFile is a file whose first line is an invitation that everybody has to
	// know who signs up (/new?t=…); empty: nobody has to.
	TokenFile string `yaml:"token_file"`
	// PerSource is how many accounts an IPv4 address or IPv6 /64 may create within
	// Window, and Total how many all may together.
	PerSource int      `yaml:"per_source"`
	Total     int      `yaml:"total"`
	Window    Duration `yaml:"window"`
}

func defaultSignup() Signup {
	return Signup{
		NameLength: 9, NameAlphabet: "abcdefghijklmnopqrstuvwxyz0123456789", PasswordLength: 20,
		PerSource: 10, Total: 200, Window: Duration(time.Hour),
	}
}

// signupNameBits is how many random bits a name has at least, so that one that is
// free is found at once and nobody finds those of others by trying.
const signupNameBits = 30

func (c *Config) checkSignup(p *problems) {
	s := &c.Signup
	p.names("signup.domains", s.Domains)
	for i, d := range s.Domains {
		key := fmt.Sprintf("signup.domains[%d]", i)
		switch {
		case !slices.Contains(c.Domains, d):
			p.add(key, "is none of domains: %s", d)
		case !slices.Contains(c.domainsOf(embedded), d):
			p.add(key, "has its mailboxes elsewhere, where accounts are not the gateway's to create: %s", d)
		}
	}
	const usable = "abcdefghijklmnopqrstuvwxyz0123456789"
	alphabet := []byte(s.NameAlphabet)
	slices.Sort(alphabet)
	switch {
	case strings.Trim(s.NameAlphabet, usable) != "" || len(slices.Compact(alphabet)) != len(s.NameAlphabet) || len(s.NameAlphabet) < 2:
		p.add("signup.name_alphabet", "must be of lower-case letters and digits, at least two and each once")
	case s.NameLength < 1 || s.NameLength > 64: // RFC 5321 section 4.5.3.1.1
		p.add("signup.name_length", "must be between 1 and 64")
	case float64(s.NameLength)*math.Log2(float64(len(s.NameAlphabet))) < signupNameBits:
		p.add("signup.name_length", "must be larger, or names that are free are hard to find and others' easy to guess")
	}
	if s.PasswordLength < 12 || s.PasswordLength > 128 {
		p.add("signup.password_length", "must be between 12 and 128")
	}
	p.atLeast("signup.per_source", s.PerSource, 1)
	p.atLeast("signup.total", s.Total, s.PerSource)
	p.duration("signup.window", s.Window, time.Minute, 30*24*time.Hour)
}

// token reads the invitation; empty: none is needed.
func (s *Signup) token() (string, error) {
	if s.TokenFile == "" {
		return "", nil
	}
	return readSecret(s.TokenFile)
}

// rules are what admin wants to know.
func (s *Signup) rules() (admin.SignupRules, error) {
	token, err := s.token()
	return admin.SignupRules{
		Domains: s.Domains, NameLength: s.NameLength, NameAlphabet: s.NameAlphabet, PasswordLength: s.PasswordLength,
		Token: token, PerSource: s.PerSource, Total: s.Total, Window: time.Duration(s.Window),
	}, err
}
