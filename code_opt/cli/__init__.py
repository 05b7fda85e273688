"""The command line: arguments in, tables or JSON out, honest exit statuses."""
