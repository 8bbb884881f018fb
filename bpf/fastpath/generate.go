package fastpath

//go:generate ./generate.sh
