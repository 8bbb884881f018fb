package call

// Status of a media session, as the call-handling API spells it.
type Status string

// All statuses of the call-handling API.
const (
	Initial          Status = "Initial"
	InProgress       Status = "InProgress"
	Ringing          Status = "Ringing"
	Proceeding       Status = "Proceeding"
	Waiting          Status = "Waiting"
	Connected        Status = "Connected"
	Hold             Status = "Hold"
	Resume           Status = "Resume"
	Terminated       Status = "Terminated"
	SessionCancelled Status = "SessionCancelled"
	Declined         Status = "Declined"
	Failed           Status = "Failed"
	NoAnswer         Status = "NoAnswer"
	NotReachable     Status = "NotReachable"
	Busy             Status = "Busy"
)

// Statuses lists every status.
func Statuses() []Status {
	return []Status{
		Initial, InProgress, Ringing, Proceeding, Waiting, Connected, Hold, Resume,
		Terminated, SessionCancelled, Declined, Failed, NoAnswer, NotReachable, Busy,
	}
}

// Final reports whether a session in this status is over.
func (s Status) Final() bool {
	switch s {
	case Terminated, SessionCancelled, Declined, Failed, NoAnswer, NotReachable, Busy:
		return true
	}
	return false
}

// SettingUp reports whether a session in this status is not yet answered.
func (s Status) SettingUp() bool {
	switch s {
	case Initial, InProgress, Ringing, Proceeding, Waiting:
		return true
	}
	return false
}

// Answered reports whether a session in this status has been answered and lives.
func (s Status) Answered() bool { return s == Connected || s == Hold || s == Resume }

// Direction of a session as the device sees it.
type Direction string

// Directions.
const (
	// Origination: the device calls.
	Origination Direction = "origination"
	// Termination: the device is called.
	Termination Direction = "termination"
)

// CanFollow reports whether a session of the given direction may go from one
// status to another. A status may be repeated while the session is set up, since
// each repetition can carry a new description.
func CanFollow(d Direction, from, to Status) bool {
	switch {
	case from.Final():
		return false
	case from.SettingUp():
		switch to {
		case Connected, SessionCancelled, Failed, NoAnswer, Declined, Terminated:
			return true
		case Busy, NotReachable, Proceeding, Waiting:
			return d == Origination
		case InProgress:
			return d == Origination || from != Ringing
		case Ringing:
			return true
		}
		return false
	default:
		switch to {
		case Hold, Resume, Connected:
			return true
		case Terminated:
			return true
		}
		return false
	}
}

// Requestable reports whether the app may ask for the status.
func (s Status) Requestable() bool {
	switch s {
	case InProgress, Ringing, Connected, Hold, Resume:
		return true
	}
	return false
}
