// Package media is the control plane's side of the media plane: it knows the
// nodes, chooses one for each session, programs it and watches what it sees.
//
//	           Announce                    snapshot fits
//	(unknown) ──────────► announced ──watch──────────► up ──┐
//	                          ▲                             │ silence, stream broken
//	                          └───── Announce ──── lost ◄───┘
//
// A node is added by being started: it announces itself and goes on doing so. It
// is lost when it has been silent for three intervals; its sessions are then told
// as lost. A node that restarts shows by its snapshot which sessions it no longer
// has. Nothing here waits for a slow node but the call that is placed on it.
package media
