package softphone_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/pion/webrtc/v4"
)

// session is a media session with the peer that stands for the gateway's media.
type session struct {
	g    *fakeGateway
	data object
	pc   *webrtc.PeerConnection
	// heard counts RTP packets of the browser, keys those of telephone-event.
	heard, keys atomic.Int64
	// answer is held back until the call is answered, when set.
	answer string
	timer  *time.Timer
}

func (s *session) status() string { return s.data["status"].(string) }

// connect makes a peer that echoes, in place of an earlier one.
func (s *session) connect() {
	s.close()
	media := &webrtc.MediaEngine{}
	for payload, c := range map[webrtc.PayloadType]webrtc.RTPCodecCapability{
		0:   {MimeType: webrtc.MimeTypePCMU, ClockRate: 8000, Channels: 1},
		126: {MimeType: "audio/telephone-event", ClockRate: 8000},
	} {
		if err := media.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: c, PayloadType: payload}, webrtc.RTPCodecTypeAudio); err != nil {
			s.g.t.Error(err)
		}
	}
	set := webrtc.SettingEngine{}
	set.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(set)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		s.g.t.Error(err)
		return
	}
	track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000, Channels: 1}, "audio", "gateway")
	if err != nil {
		s.g.t.Error(err)
		return
	}
	if _, err := pc.AddTrack(track); err != nil {
		s.g.t.Error(err)
	}
	pc.OnTrack(func(remote *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := remote.ReadRTP()
			if err != nil {
				return
			}
			if p.PayloadType == 126 {
				s.keys.Add(1)
				continue
			}
			s.heard.Add(1)
			_ = track.WriteRTP(p)
		}
	})
	s.pc = pc
}

func (s *session) close() {
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.pc != nil {
		_ = s.pc.Close()
	}
}

// describe sets and completes the local description.
func (s *session) describe(d webrtc.SessionDescription, err error) string {
	if err != nil {
		s.g.t.Error(err)
		return ""
	}
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err := s.pc.SetLocalDescription(d); err != nil {
		s.g.t.Error(err)
	}
	<-gathered
	return s.pc.LocalDescription().SDP
}

// takeOffer answers the browser's offer; one of a new browser page gets a new peer.
func (s *session) takeOffer(sdp string) string {
	if old := s.pc; old == nil || old.RemoteDescription() == nil || ufrag(old.RemoteDescription().SDP) != ufrag(sdp) {
		s.connect()
	}
	// The peer goes on sending while it is held; only its answer says otherwise.
	plain := strings.Replace(sdp, "a=sendonly", "a=sendrecv", 1)
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: plain}); err != nil {
		s.g.t.Error(err)
		return ""
	}
	answer := s.describe(s.pc.CreateAnswer(nil))
	if plain != sdp {
		return strings.Replace(answer, "a=sendrecv", "a=recvonly", 1)
	}
	return answer
}

func (s *session) takeAnswer(sdp string) {
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		s.g.t.Error(err)
	}
}

func ufrag(sdp string) string {
	_, rest, _ := strings.Cut(sdp, "a=ice-ufrag:")
	u, _, _ := strings.Cut(rest, "\r\n")
	return u
}

// tell moves the session and notifies of it.
func (s *session) tell(status string, more object) {
	s.data["status"] = status
	data := object{"mediaSessionId": s.data["mediaSessionId"], "status": status}
	for k, v := range more {
		data[k] = v
	}
	s.g.notify("session-status", data)
}

// later runs a step under the lock, unless the session has ended.
func (s *session) later(after time.Duration, step func()) {
	s.timer = time.AfterFunc(after, func() {
		s.g.mu.Lock()
		defer s.g.mu.Unlock()
		if _, live := s.g.sessions[s.data["mediaSessionId"].(string)]; live {
			step()
		}
	})
}

func sdpOf(body object, member string) string {
	d, _ := body[member].(object)
	sdp, _ := d["sdp"].(string)
	return sdp
}

func (g *fakeGateway) originate(r *http.Request, body object) (int, any) {
	if g.refuse != nil {
		answer := g.refuse
		g.refuse = nil
		return int(answer["status"].(int)), answer
	}
	if _, ok := g.registrations[r.Header.Get("registrationId")]; !ok || body["originatorAddress"] != "tel:"+alice {
		return 403, object{"status": 403, "code": "INVALID_TOKEN_CONTEXT", "message": "registrationId"}
	}
	id := uuid.NewString()
	body["mediaSessionId"], body["status"] = id, "Initial"
	s := &session{g: g, data: body}
	g.sessions[id] = s
	s.answer = s.takeOffer(sdpOf(body, "offer"))
	to := body["receiverAddress"].(string)
	g.trace("gateway", "network", "INVITE sip:"+strings.TrimPrefix(to, "tel:")+"@telco.example", id, "INVITE sip:x SIP/2.0\r\n{\"mediaSessionId\":\""+id+"\"}")
	end := func(status, reason string) func() {
		return func() {
			g.trace("network", "gateway", reason, id, "SIP/2.0 "+reason)
			s.tell(status, object{"reason": reason})
		}
	}
	const soon = 150 * time.Millisecond
	ringing := func() {
		g.trace("network", "gateway", "180 Ringing", id, "SIP/2.0 180 Ringing")
		s.tell("Ringing", nil)
	}
	answered := func() {
		g.trace("network", "gateway", "200 OK", id, "SIP/2.0 200 OK")
		g.trace("media", "media", "first packet from the device", id, "")
		s.data["answer"] = object{"sdp": s.answer}
		s.tell("Connected", object{"answer": object{"sdp": s.answer}})
	}
	switch strings.TrimPrefix(to, "tel:") {
	case "+15550100":
		s.later(soon, func() { ringing(); s.later(4*soon, answered) })
	case "+15550102":
		s.later(soon, end("Busy", "486 Busy Here"))
	case "+15550103":
		s.later(soon, func() { ringing(); s.later(soon, end("Declined", "603 Decline")) })
	case "+15550104":
		s.later(soon, end("NotReachable", "404 Not Found"))
	case "+15550105":
		s.later(soon, func() { ringing(); s.later(6*soon, end("NoAnswer", "408 Request Timeout")) })
	case "+15550106":
		s.later(soon, func() {
			s.tell("InProgress", object{"answer": object{"sdp": s.answer}})
			// The same session, described once more with a newer version.
			s.later(10*soon, func() {
				s.answer = strings.Replace(s.answer, "a=group", "a=tool:final\r\na=group", 1)
				answered()
			})
		})
	default:
		s.later(soon, end("Failed", "500 Server Internal Error"))
	}
	return 201, body
}

func (g *fakeGateway) session(r *http.Request, _ object) (int, any) {
	s, ok := g.sessions[r.PathValue("id")]
	if !ok {
		return notFound()
	}
	return 200, s.data
}

func (g *fakeGateway) update(r *http.Request, body object) (int, any) {
	s, ok := g.sessions[r.PathValue("id")]
	if !ok {
		return notFound()
	}
	status := body["status"].(string)
	if status == "Hold" && g.rejectHold {
		g.rejectHold = false
		return 409, object{"status": 409, "code": "INCOMPATIBLE_STATE", "message": "The far end refused to be held."}
	}
	answer := object{}
	for k, v := range s.data {
		answer[k] = v
	}
	if offer := sdpOf(body, "offer"); offer != "" {
		answer["offer"] = body["offer"]
		answer["answer"] = object{"sdp": s.takeOffer(offer)}
	}
	if sdp := sdpOf(body, "answer"); sdp != "" {
		s.takeAnswer(sdp)
		s.data["answer"] = body["answer"]
	}
	answer["status"] = status
	s.data["status"] = status
	if status == "Resume" {
		s.data["status"] = "Connected"
	}
	g.notify("session-status", object{"mediaSessionId": s.data["mediaSessionId"], "status": status})
	return 200, answer
}

func (g *fakeGateway) hangUp(r *http.Request, _ object) (int, any) {
	s, ok := g.sessions[r.PathValue("id")]
	if !ok {
		return notFound()
	}
	status := "Terminated"
	if s.status() == "Initial" || s.status() == "Ringing" || s.status() == "InProgress" {
		status = "SessionCancelled"
	}
	s.tell(status, nil)
	s.close()
	delete(g.sessions, r.PathValue("id"))
	return 204, nil
}

// callMe rings the phone.
func (g *fakeGateway) callMe(body object) (int, any) {
	id := uuid.NewString()
	s := &session{g: g, data: object{
		"mediaSessionId": id, "originatorAddress": "tel:+15550114", "originatorName": "Call-back", "receiverAddress": "tel:" + body["to"].(string), "status": "Initial",
	}}
	g.sessions[id] = s
	s.connect()
	s.data["offer"] = object{"sdp": s.describe(s.pc.CreateOffer(nil))}
	g.notify("session-invitation", s.data)
	return 202, object{"callId": id}
}

// only is the one session that there is.
func (g *fakeGateway) only() *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		return s
	}
	g.t.Fatal("there is no session")
	return nil
}

// onlyLocked is only, for who holds the lock.
func (g *fakeGateway) onlyLocked() *session {
	for _, s := range g.sessions {
		return s
	}
	g.t.Fatal("there is no session")
	return nil
}

// drop forgets all sessions.
func (g *fakeGateway) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, s := range g.sessions {
		s.close()
		delete(g.sessions, id)
	}
}
