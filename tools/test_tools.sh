# Installs the programs that the tests need, listed in tests/tools.txt, on Debian and Ubuntu.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
for folder in /usr/lib/postgresql/*/bin; do PATH=$PATH:$folder; done
system=$(. /etc/os-release 2>/dev/null && echo "$ID ${ID_LIKE:-}") || system=unknown
case " $system " in
  *" ubuntu "*) is_ubuntu=yes ;;
  *) is_ubuntu='' ;;
esac

missing=''
add() { missing="$missing $*"; }
python3 -c 'import ensurepip, venv' 2>/dev/null || add python3 python3-venv
while read -r program packages; do
  case $program in '#'*) continue ;; esac
  case $program in chromium-headless-shell | firefox-esr) [ "$is_ubuntu" ] && continue ;; esac
  command -v "$program" >/dev/null || add "$packages"
done <tests/tools.txt

if [ "$missing" ]; then
  command -v apt-get >/dev/null || {
    echo "machines-server: the tests need$missing (names of Debian packages), and there is no apt-get to install them" >&2
    exit 1
  }
  as_root=''
  [ "$(id -u)" -eq 0 ] || as_root=sudo
  $as_root apt-get update -qq
  # shellcheck disable=SC2086  they are words
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

# Ubuntu has no firefox-esr, and its package of Chromium brings a snap, which sees no files of tests and which containers cannot have.
if [ "$is_ubuntu" ] && ! command -v google-chrome >/dev/null; then
  make .venv/.ready-dev
  .venv/bin/python -m playwright install --with-deps chromium
fi
