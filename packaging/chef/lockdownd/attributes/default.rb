# Every attribute, with its default. README.md has an example of each.

# The stack that this instance belongs to: lockdownd's host.stack, and what the items of the data bag are chosen by.
default['lockdownd']['stack'] = nil

# Where the package comes from: a .deb (`source`, a path or a URL; a URL needs `checksum`), else an apt repository (`repository`: uri,
# distribution, components, and key: the text of its public key, or a path or URL of it), else whatever repositories the instance
# has already.
default['lockdownd']['install']['source'] = nil
default['lockdownd']['install']['checksum'] = nil
default['lockdownd']['install']['version'] = nil
default['lockdownd']['install']['repository'] = nil

# What stands in /etc/lockdownd/config.toml: the keys of config.example.toml, as they are called there.
default['lockdownd']['config']['mode'] = 'observe'

# NAME => { 'keys' => [...], 'accounts' => [...], 'operator' => true }. false takes somebody out again.
default['lockdownd']['people'] = {}

# LABEL => { 'person', 'account', 'expires_at', 'starts_at', 'from', 'reason' }. false takes it out again.
default['lockdownd']['grants'] = {}

# The data bag whose items are people, with the stacks that they are for; and which items, where not all of them.
default['lockdownd']['data_bag'] = nil
default['lockdownd']['data_bag_items'] = nil
