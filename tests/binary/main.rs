//! The built binary, driven from outside: [`contract`] holds it to what is
//! published, [`crowd`] comes in numbers, [`homes`] asks it at many addresses,
//! [`peers`] has other people's programs talk to it, [`policy_peers`] compares
//! with those that enforce policy zones as well, [`downstream`] validates behind
//! it, [`forwarding`] asks through other resolvers, [`web`] is where lists come
//! from, [`deploy`] what is shipped beside it, [`misuse`] what people do by
//! mistake, [`reload`] what goes wrong while lists are read again, and [`readme`]
//! does what the front page shows. The world they live in is [`internet`].

mod contract;
mod crowd;
mod deploy;
mod downstream;
mod forwarding;
mod homes;
mod internet;
mod misuse;
mod peers;
mod policy_peers;
mod readme;
mod reload;
mod server;
mod tls;
mod web;
