package trunk

import (
	"fmt"
	"regexp"
	"strings"
)

// Rewrite has the rules by which a trunk's numbers become E.164 numbers and back.
// Of each list the first rule that fits is taken; a number that none fits is left
// as it is. Out, a rule sees the number in E.164 form (+4930123) and makes the user
// part of the URI; in, it sees the user part without visual separators and must
// make an E.164 number of it.
type Rewrite struct {
	CalledOut  []Rule `yaml:"called_out" help:"called numbers of outgoing calls"`
	CallingOut []Rule `yaml:"calling_out" help:"calling numbers of outgoing calls"`
	CalledIn   []Rule `yaml:"called_in" help:"called numbers of incoming calls"`
	CallingIn  []Rule `yaml:"calling_in" help:"calling numbers of incoming calls"`
}

// Rule replaces a prefix, or what a regular expression matches.
type Rule struct {
	Prefix  string `yaml:"prefix" help:"digits (or +) that the number begins with, replaced by replace"`
	Match   string `yaml:"match" help:"regular expression (RE2) that the whole number matches; replace may use $1"`
	Replace string `yaml:"replace" help:"what stands there instead"`
}

func (r Rewrite) validate() error {
	for name, rules := range map[string][]Rule{"called_out": r.CalledOut, "calling_out": r.CallingOut, "called_in": r.CalledIn, "calling_in": r.CallingIn} {
		for i, rule := range rules {
			if (rule.Prefix == "") == (rule.Match == "") {
				return fmt.Errorf("%s[%d]: needs either prefix or match", name, i)
			}
			if _, err := rule.expression(); err != nil {
				return fmt.Errorf("%s[%d].match: %w", name, i, err)
			}
			if strings.Trim(rule.Replace, "0123456789+*#${}abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-.") != "" {
				return fmt.Errorf("%s[%d].replace: %q has a character that may not stand in a number", name, i, rule.Replace)
			}
		}
	}
	return nil
}

func (r Rule) expression() (*regexp.Regexp, error) {
	if r.Match == "" {
		return nil, nil
	}
	return regexp.Compile("^(?:" + r.Match + ")$")
}

// rules are Rules ready for use.
type rules []struct {
	prefix, replace string
	match           *regexp.Regexp
}

func compile(in []Rule) rules {
	out := make(rules, len(in))
	for i, r := range in {
		out[i].prefix, out[i].replace = r.Prefix, r.Replace
		out[i].match, _ = r.expression() // validated
	}
	return out
}

// apply answers the number that the first fitting rule makes.
func (rs rules) apply(number string) (string, bool) {
	for _, r := range rs {
		if r.match != nil {
			if r.match.MatchString(number) {
				return r.match.ReplaceAllString(number, r.replace), true
			}
			continue
		}
		if rest, ok := strings.CutPrefix(number, r.prefix); ok {
			return r.replace + rest, true
		}
	}
	return number, false
}
