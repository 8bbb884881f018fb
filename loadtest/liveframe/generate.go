package liveframe

//go:generate ./generate.sh
