#!/bin/sh
# How many instructions larder spends on one manifest hit and on one small blob hit, counted by
# callgrind: a figure that does not depend on what else the machine does. What the kernel spends on
# a request's system calls is not in it.
#
#   benches/instructions.sh [LARDER]       (default: target/dist/larder)
#
# Each figure is the difference between two runs that ask a different number of times, by one
# connection, so that the start and the stop are not in it. PROFILE=DIRECTORY keeps callgrind's
# files there, for callgrind_annotate; build with `--config profile.dist.debug=1
# --config 'profile.dist.strip="none"'` for names in them.
set -eu

larder=${1:-target/dist/larder}
few=200 many=1200
for program in valgrind curl sha256sum; do
	command -v "$program" >/dev/null || { echo "$program is missing: apt-get install valgrind curl" >&2; exit 1; }
done

work=$(mktemp -d)
pid=
end() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	rm -rf "$work"
}
trap end EXIT INT TERM

cat >"$work/config.yml" <<EOF
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/root}}
http: {addr: 127.0.0.1:0}
cache: {minfree: "0"}
EOF

# Without these larder would start itself once more, which valgrind does not follow.
export MALLOC_MMAP_THRESHOLD_=131072 MALLOC_TRIM_THRESHOLD_=131072 MALLOC_ARENA_MAX=2

# start [COMMAND...]: starts larder under the command, and sets $url.
start() {
	: >"$work/log"
	"$@" "$larder" serve "$work/config.yml" >"$work/log" 2>&1 &
	pid=$!
	url=
	while [ -z "$url" ]; do
		kill -0 "$pid" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
		sleep 0.2
		port=$(listening "$pid")
		[ -z "$port" ] || url=http://127.0.0.1:$port
	done
}

# listening PID: the port on which the process listens.
listening() {
	sockets=$(ls -l "/proc/$1/fd" 2>/dev/null | sed -n 's/.*socket:\[\([0-9]*\)\]/\1/p')
	for socket in $sockets; do
		awk -v inode="$socket" '$4 == "0A" && $10 == inode { split($2, at, ":"); print at[2] }' /proc/net/tcp
	done | head -n 1 | { read -r hex && printf '%d' "0x$hex" || true; }
}

stop() {
	kill -TERM "$pid"
	wait "$pid" || true
	pid=
}

# upload FILE: pushes a blob, and prints its digest.
upload() {
	digest=sha256:$(sha256sum "$1" | cut -d' ' -f1)
	location=$(curl -sf -X POST -D - -o /dev/null "$url/v2/bench/uploads/blobs/uploads/" | tr -d '\r' |
		sed -n 's/^[Ll]ocation: //p')
	curl -sf -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$1" "$url$location&digest=$digest"
	echo "$digest"
}

start
head -c 10240 /dev/zero | tr '\0' x >"$work/blob"
blob=$(upload "$work/blob")
layers=$(for _ in 1 2 3 4 5 6 7 8; do
	printf '{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"%s","size":10240},' "$blob"
done)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":10240},"layers":[%s]}' \
	"$blob" "${layers%,}" >"$work/manifest"
curl -sf -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
	--data-binary "@$work/manifest" "$url/v2/bench/uploads/manifests/v1"
stop

# count PATH TIMES NAME: the instructions of a whole run that asks so many times.
count() {
	start valgrind --tool=callgrind --callgrind-out-file="$work/$3.callgrind" --log-file="$work/valgrind"
	# Until it comes from memory.
	for _ in 1 2 3 4 5; do
		curl -sf -o /dev/null "$url$1"
		sleep 0.5
	done
	# What is behind # is not sent.
	curl -sf -H 'Accept: application/vnd.oci.image.manifest.v1+json' -o /dev/null "$url$1#[1-$2]"
	stop
	[ -z "${PROFILE:-}" ] || cp "$work/$3.callgrind" "$PROFILE/"
	sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$work/valgrind"
}

for what in "manifest /v2/bench/uploads/manifests/v1" "blob /v2/bench/uploads/blobs/$blob"; do
	name=${what%% *} path=${what#* }
	less=$(count "$path" "$few" "$name.$few")
	more=$(count "$path" "$many" "$name.$many")
	echo "$name: $(((more - less) / (many - few))) instructions"
done
