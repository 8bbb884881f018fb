package call

// Number is an E.164 number with its plus sign: 5 to 15 digits, the first not 0.
type Number string

// ParseNumber accepts exactly the CAMARA form ^\+[1-9][0-9]{4,14}$.
func ParseNumber(s string) (Number, error) {
	if !isE164(s) {
		return "", Errorf(InvalidArgument, "%q is not a phone number in E.164 form: expected +, then 5 to 15 digits, the first not 0", clip(s))
	}
	return Number(s), nil
}

// Address is the number as an Address, tel:+….
func (n Number) Address() Address {
	return Address{kind: TelGlobal, user: string(n), raw: "tel:" + string(n)}
}

// Digits is the number without its plus sign.
func (n Number) Digits() string {
	if n == "" {
		return ""
	}
	return string(n[1:])
}

func isE164(s string) bool {
	if len(s) < 6 || len(s) > 16 || s[0] != '+' || s[1] == '0' {
		return false
	}
	return onlyDigits(s[1:])
}

func onlyDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// clip bounds a caller's string in a message and keeps it on one line; messages
// are quoted with %q.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
