#!/bin/sh
# Removes from a virtual environment what the program never reads: sh prune-image.sh ENVIRONMENT
set -eu
packages=$(echo "$1"/lib/python3.*/site-packages)

# Tests of the libraries, and sources of what is compiled beside them.
find "$packages" -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} +
find "$packages" -type f \
  \( -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.hpp' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' \) -delete
# Of the descriptions of AWS services those of the services that are called, and what all of them share.
for folder in "$packages"/botocore/data/*/ "$packages"/boto3/data/*/; do
  case "$(basename "$folder")" in sqs | sns | s3 | cloudwatch | sts) ;; *) rm -rf "$folder" ;; esac
done
