package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"posthorn/client"
	"posthorn/client/sendmail"
)

// SendmailConfig is what "posthorn sendmail" needs to know, besides what it is
// told by those who call it.
type SendmailConfig struct {
	ClientConfig `yaml:",inline"`
	// From is whose mail it is; default: user.
	From string `yaml:"from"`
	// ReplaceFrom puts From in the place of other senders.
	ReplaceFrom bool `yaml:"replace_from"`
	// Aliases are addresses, with commas between them, for names without a domain.
	Aliases map[string]string `yaml:"aliases"`
	// Queue is the directory in which messages wait that cannot be sent.
	Queue string `yaml:"queue"`
}

// sendmailEnv names the environment variable that stands in for --config.
const sendmailEnv = "POSTHORN_SENDMAIL_CONFIG"

// sendmailPlaces are where a configuration is looked for, in this order.
func (c *cli) sendmailPlaces() (places []string) {
	dir, err := os.UserConfigDir()
	if err != nil {
		var home string
		home, err = homeDir()
		dir = filepath.Join(home, ".config")
	}
	if err == nil {
		places = append(places, filepath.Join(dir, "posthorn", "sendmail.yaml"))
	}
	return append(places, "/etc/posthorn/sendmail.yaml")
}

// sendmailConfig reads the configuration: a file that is named, or the first that
// there is.
func (c *cli) sendmailConfig(file string) (*SendmailConfig, error) {
	if file == "" {
		file = c.getenv(sendmailEnv)
	}
	cfg := new(SendmailConfig)
	places := []string{file}
	if file == "" {
		places = c.sendmailPlaces()
	}
	for _, place := range places {
		err := loadClientFile(place, cfg, &cfg.ClientConfig)
		if errors.Is(err, fs.ErrNotExist) && file == "" {
			continue
		}
		if err == nil {
			err = cfg.complete(place)
		}
		if err != nil {
			return nil, &sendmail.Error{Code: sendmail.Config, Err: withHint(err, "examples/sendmail/sendmail.yaml explains every key")}
		}
		return cfg, nil
	}
	return nil, &sendmail.Error{Code: sendmail.Config, Err: withHint(errors.New("there is no configuration for sendmail"),
		"write one, as examples/sendmail/sendmail.yaml, to %s, or name it with --config or $%s", strings.Join(places, " or "), sendmailEnv)}
}

// complete checks the configuration of a file, and fills in what follows from the
// rest.
func (s *SendmailConfig) complete(file string) error {
	if s.From == "" && strings.Contains(s.User, "@") {
		s.From = s.User
	}
	switch {
	case s.Host == "":
		return errors.New("host is missing: the gateway's name")
	case s.From != "" && !strings.Contains(s.From, "@"):
		return fmt.Errorf("from: %q is no address", s.From)
	case s.ReplaceFrom && s.From == "":
		return errors.New("replace_from needs from")
	}
	var err error
	s.Queue, err = beside(file, s.Queue)
	return err
}

// aliases are those of the configuration, as the library takes them.
func (s *SendmailConfig) aliases() map[string][]string {
	all := make(map[string][]string)
	for name, list := range s.Aliases {
		for a := range strings.SplitSeq(list, ",") {
			if a = strings.TrimSpace(a); a != "" {
				all[strings.ToLower(name)] = append(all[strings.ToLower(name)], a)
			}
		}
	}
	return all
}

// dialer leads to the gateway.
func (s *SendmailConfig) dialer() (*client.Dialer, error) {
	library, err := s.client()
	if err == nil && s.Identity == "" && s.PasswordFile == "" {
		err = errors.New("nobody logs in: identity, or user and password_file, are missing")
	}
	if err == nil {
		// Where there is no home, nothing is remembered.
		if err := s.remember(&library); err != nil {
			library.Memory = nil
		}
		var d *client.Dialer
		if d, err = client.New(library); err == nil {
			return d, nil
		}
	}
	return nil, &sendmail.Error{Code: sendmail.Config, Err: err}
}
