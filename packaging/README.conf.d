Files here whose names end in .toml are read after ../config.toml, in the order of their names, and hold the same keys:
the people and grants that your configuration management renders. Check one before it goes live, in the whole as it
would be with it: lockdownctl check --as /etc/lockdownd/conf.d/NAME.toml FILE
