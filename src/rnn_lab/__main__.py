"""`python -m rnn_lab <command>` is the same as `rnn-lab <command>`."""

from rnn_lab.commands import main

if __name__ == "__main__":
    main()
