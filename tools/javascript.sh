# Checks format and style of the page's JavaScript with the Biome that package-lock.json names, and installs it first.
set -eu
cd "$(dirname "$0")/.."

for program in node npm; do
  command -v "$program" >/dev/null && continue
  package=$(sed -n "s/^$program  *//p" tests/tools.txt)
  echo "machines-server: JavaScript was not checked, because $program is not installed (Debian: $package)" >&2
  # In CI nothing may be left out.
  [ "${MACHINES_TEST_ALL_TOOLS:-}" != 1 ]
  exit
done

sh tools/node_modules.sh
node_modules/.bin/biome ci --error-on-warnings
